//! The Lambda function.

use std::process::ExitCode;

fn main() -> ExitCode {
    pixel::function::main()
}
