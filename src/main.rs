//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    pixel::cli::main()
}
