//! All outgoing connections: signed requests to the destination, within a budget.

pub mod ask;
pub mod bulk;
pub mod codes;
pub mod correction;
pub mod credentials;
pub mod http;
pub mod router;
pub mod sign;
