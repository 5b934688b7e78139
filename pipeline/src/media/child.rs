//! The child's side: reads one request, does it, says how it ended.
//! Everything that parses media is in `engine`; nothing here may outlive a broken pipe or hide a panic.

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cage::{self, Bounds, Sandbox};
use super::cores;
use super::engine::{self, EngineError, RemoteFile, Speaker};
use super::protocol::{Message, Request, read_frame, write_frame};
use crate::video::FailureCause;

/// Enters the cage, says what holds of it, and then [`run`]s, with our stdin as the socket to the parent.
/// Where less holds than `sandbox` asks for, not even the request is read.
/// To be called once, before any thread exists: the cage holds for the thread that enters it, and for those made later.
pub fn run_caged(
    sandbox: Sandbox,
    bounds: Bounds,
    stdout: &mut (impl Write + Send),
) -> io::Result<()> {
    cores::count();
    let level = cage::enter(bounds);
    let refused = sandbox.refusal(&level).is_some();
    write_frame(stdout, &Message::Caged(level), &[])?;
    if refused { Ok(()) } else { run(Parent, stdout) }
}

/// Our stdin, which is a socket: we ask on it, too. Without a buffer, a copy or anything but `read` and `write`.
struct Parent;

impl Read for Parent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io::stdin(), buffer)?)
    }
}

impl Write for Parent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdin(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs one request to its end. Every refusal becomes a `Failed` message; an error is only a broken pipe.
/// The request comes from `parent`, and then the input. Nothing is opened, and there is no cage: see [`run_caged`].
pub fn run(
    mut parent: impl Read + Write + Send + 'static,
    stdout: &mut (impl Write + Send),
) -> io::Result<()> {
    let mut speaker = Speaker::new(stdout);
    let request: Request = match read_frame(&mut parent) {
        Ok(Some((request, _))) => request,
        Ok(None) => return Ok(()),
        Err(error) => {
            return refuse(&mut speaker, &EngineError::internal("read the request", error));
        }
    };
    let file = match RemoteFile::open(parent) {
        Ok(file) => file,
        Err(error) => {
            return refuse(&mut speaker, &EngineError::internal("reach the input", error));
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| engine::run(&request, file, &mut speaker)))
        .unwrap_or_else(|panic| Err(EngineError::panicked(panic_text(&*panic))));
    match ended {
        Ok(()) => Ok(()),
        Err(EngineError::Pipe(error)) => Err(error),
        Err(error) => refuse(&mut speaker, &error),
    }
}

fn refuse(speaker: &mut Speaker<'_>, error: &EngineError) -> io::Result<()> {
    let (cause, detail) = match error {
        EngineError::Refused { cause, detail } => (*cause, detail.clone()),
        other => (FailureCause::Internal, other.to_string()),
    };
    match speaker.say(&Message::Failed { cause, detail }, &[]) {
        Err(EngineError::Pipe(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
        Ok(()) => Ok(()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into())
}
