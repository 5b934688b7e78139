//! The child's side: reads one request, does it, says how it ended.
//! Everything that parses media is in `engine`; nothing here may outlive a broken pipe or hide a panic.

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::engine::{self, EngineError, RemoteFile, Speaker};
use super::protocol::{Message, Request, read_frame};
use crate::video::FailureCause;

/// More address space than any file within the limits needs: past it an allocation fails and this process ends.
const MOST_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Makes this process a media child: it dies with its parent, even when that parent is killed, its memory is bounded, and
/// a crash leaves no core file with somebody's pictures in it.
/// To be called once, before [`run`], by the command that the parent starts.
pub fn enter_process() -> io::Result<()> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // A parent that died before the line above sends no signal any more.
    if rustix::process::getppid() != parent {
        return Err(io::Error::other("the parent died before the media child could start"));
    }
    bound(Resource::As, MOST_MEMORY_BYTES)?;
    bound(Resource::Core, 0)
}

fn bound(resource: Resource, most: u64) -> io::Result<()> {
    let found = getrlimit(resource);
    let most = found.maximum.map_or(most, |maximum| maximum.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}

/// Runs one request to its end. Every refusal becomes a `Failed` message; an error is only a broken pipe.
/// `parent` is the socket that this process was started with: the request comes from there, and then the input.
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
