//! Destinations: URLs, requests, signatures, real servers and their faults.

pub mod faults;
pub mod index_setup;
pub mod lifecycle;
pub mod queues;
pub mod real_index;
pub mod restart;
pub mod signature;
pub mod signing_faults;
pub mod urls;
