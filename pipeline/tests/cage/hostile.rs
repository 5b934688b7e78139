//! The hostile child: started as the real one is, caged as the real one is, then it does what its name says.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use pipeline::media::cage::{self, Bounds, Sandbox};
use pipeline::media::child;
use pipeline::media::protocol::{Message, write_frame};
use pipeline::video::FailureCause;

use crate::target::Target;
use crate::{layers, lies, probes};

/// What comes before the name of a probe.
pub(crate) const PROBE: &str = "probe-";
/// The same, in a cage without seccomp.
pub(crate) const BARE_PROBE: &str = "bare-probe-";
/// The same, in a cage without Landlock either.
pub(crate) const BARER_PROBE: &str = "barer-probe-";
pub(crate) const LIE: &str = "lie-";
/// An honest child on a kernel without something.
pub(crate) const WITHOUT: &str = "without-";
/// Only enters the cage, then spins or writes: for the limits that the kernel keeps.
pub(crate) const LIMIT: &str = "limit-";

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let program = PathBuf::from(std::env::args_os().next().expect("a program"));
    let name = program.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag);
        at.and_then(|at| arguments.get(at + 1)).expect("a flag of the parent")
    };
    let sandbox: Sandbox = value("--sandbox").parse().expect("a sandbox");
    let bounds = Bounds { cpu_seconds: value("--cpu-seconds").parse().expect("seconds") };
    if let Some(layer) = name.strip_prefix(WITHOUT) {
        layers::take_away(layer);
        let ended = child::run_caged(sandbox, bounds, &mut stdout());
        return if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let target = Target::read(&program);
    if name.starts_with(BARE_PROBE) {
        layers::take_away("seccomp");
    } else if name.starts_with(BARER_PROBE) {
        layers::take_away("landlock");
        layers::take_away("seccomp");
    }
    let level = cage::enter(bounds);
    say(&Message::Caged(level));
    if let Some(probe) = name.split_once(PROBE).map(|(_, probe)| probe) {
        let detail = match probes::find(probe).attempt(&target) {
            Ok(did) => format!("did: {did}"),
            Err(error) => format!("refused: {error}"),
        };
        say(&Message::Failed { cause: FailureCause::Internal, detail });
    } else if let Some(lie) = name.strip_prefix(LIE) {
        lies::find(lie).tell();
    } else if let Some(limit) = name.strip_prefix(LIMIT) {
        layers::use_up(limit);
    }
    ExitCode::SUCCESS
}

fn say(message: &Message) {
    write_frame(&mut stdout(), message, &[]).expect("a parent that listens");
}

/// Without the buffer of `std`, which waits for the end of a line.
pub(crate) fn stdout() -> impl Write + Send {
    Descriptor
}

struct Descriptor;

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(std::io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
