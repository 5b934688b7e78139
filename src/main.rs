//! The binary: everything is in the library, so that tests can build the same daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    clipstream::cli::main()
}
