//! `clipstream media-child`: what a worker starts to have one file decoded. Reads a request on stdin, answers on stdout.
//!
//! Runs before any thread and without a logger; a panic ends it with a status that the worker counts as a crash.

use std::fs::File;
use std::io::{self, stdin, stdout};
use std::os::fd::AsFd;
use std::process::ExitCode;

use pipeline::media::child;

/// One request, then the end.
#[must_use]
pub fn run() -> ExitCode {
    let done = child::enter_process().and_then(|()| child::run(parent()?, &mut stdout()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The worker is gone, or speaks another version: nobody is there to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Our stdin is a socket: we ask on it too. As a file, it is read and written with nothing but `read` and `write`.
fn parent() -> io::Result<File> {
    Ok(stdin().as_fd().try_clone_to_owned()?.into())
}
