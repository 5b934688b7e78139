//! The control of the probes: outside the cage the same attempts reach what they are after, as far as they are harmless
//! and this user may. A probe that failed everywhere would prove nothing.

use std::io::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::Programs;
use crate::probes::{self, Outside};
use crate::refusals::file_name;
use crate::target::{Stage, Target};

/// The child's side: no cage, and the outcome as an exit code: 0, or the error's number.
pub(crate) fn run(probe: &str) -> ExitCode {
    let program = PathBuf::from(std::env::args_os().next().expect("a program"));
    let target = Target::read(&program);
    match probes::find(probe).attempt(&target) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            ExitCode::from(error.raw_os_error().and_then(|e| u8::try_from(e).ok()).unwrap_or(255))
        }
    }
}

pub(crate) fn the_same_probes_work_outside() {
    let programs = Programs::new();
    let stage = Stage::new(programs.path());
    let mut wrong = Vec::new();
    for probe in probes::all() {
        let program = programs.named(&format!("control-{}", file_name(probe.name)));
        let status = Command::new(program)
            .args(["control", probe.name])
            .env("CANARY", "seen")
            .status()
            .expect("it runs");
        let fine = match (status.code(), probe.outside) {
            (Some(0), Outside::Works | Outside::WorksOrFails(_)) => true,
            (Some(errno), Outside::Fails(known) | Outside::WorksOrFails(known)) => {
                known.contains(&errno)
            }
            _ => false,
        };
        if !fine {
            let why = status.code().map_or_else(
                || status.to_string(),
                |errno| Error::from_raw_os_error(errno).to_string(),
            );
            wrong.push(format!("{}: {why}", probe.name));
        }
    }
    assert!(wrong.is_empty(), "outside the cage:\n{}", wrong.join("\n"));
    assert!(stage.was_reached(), "nobody knocked");
    assert!(stage.is_untouched(), "the control changed a file");
}
