//! The Lambda function, in an environment like Lambda's.

pub mod capture;
pub mod care;
pub mod code_standing;
pub mod index_role;
pub mod lambda_rig_itself;
pub mod lambda_traps;
pub mod opt_outs;
