//! The only outgoing connections: a signed request to the destination, within a budget.

pub mod ask;
pub mod bulk;
pub mod client;
pub mod correction;
pub mod courier;
pub mod credentials;
pub mod sign;
