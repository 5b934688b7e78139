//! `clipstream media-child`: what a worker starts to have one file decoded. Reads a request on stdin, answers on stdout.
//!
//! Runs before any thread and without a logger; a panic ends it with a status that the worker counts as a crash.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use pipeline::media::child;

/// One request, then the end.
#[must_use]
pub fn run() -> ExitCode {
    let done = child::enter_process().and_then(|()| child::run(&mut stdin().lock(), &mut stdout()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The worker is gone, or speaks another version: nobody is there to tell.
        Err(_) => ExitCode::FAILURE,
    }
}
