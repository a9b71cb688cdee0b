//! The CloudFormation templates.

pub mod request_path;
pub mod rights;
pub mod templates;
