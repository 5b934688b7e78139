//! `clipstream media-child`: what a worker starts to have one file decoded. Reads a request and the input on stdin, which is
//! a socket, answers on stdout.
//!
//! Runs before any thread and without a logger; a panic is told as a defect of ours, which is tried again.

use std::io::stdout;
use std::process::ExitCode;

use pipeline::media::cage::{Bounds, Sandbox};
use pipeline::media::child;

#[derive(clap::Args)]
pub struct Args {
    /// How much of the cage must hold before the file is read
    #[arg(long, default_value_t = Sandbox::Required)]
    sandbox: Sandbox,
    /// CPU time that it may use
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    cpu_seconds: u64,
}

/// One request, then the end.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let bounds = Bounds { cpu_seconds: args.cpu_seconds };
    match child::run_caged(args.sandbox, bounds, &mut stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        // The worker is gone, or speaks another version: nobody is there to tell.
        Err(_) => ExitCode::FAILURE,
    }
}
