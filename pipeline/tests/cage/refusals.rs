//! Every probe and every lie, by a hostile child in the real cage, started and heard by the real parent.

use std::path::Path;
use std::time::{Duration, Instant};

use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Request, Task};
use pipeline::media::{Media, MediaConfig, MediaError};

use crate::Programs;
use crate::hostile::{LIE, PROBE};
use crate::lies::LIES;
use crate::probes::{self, Refusal};
use crate::target::Stage;

const DEADLINE: Duration = Duration::from_mins(1);
const SILENCE_MS: u64 = 2_000;

pub(crate) fn every_probe_is_refused() {
    let programs = Programs::new();
    let stage = Stage::new(programs.path());
    assert!(probes::all().count() >= 30, "{} probes", probes::all().count());
    println!("{:<34} refused by", "probe");
    let mut wrong = Vec::new();
    for probe in probes::all() {
        let program = programs.named(&format!("{PROBE}{}", file_name(probe.name)));
        let error = heard(&program);
        let verdict = verdict(&error);
        println!("{:<34} {}", probe.name, said(probe.refused_by));
        if verdict != expected(probe.refused_by) {
            wrong.push(format!("{}: {verdict}", probe.name));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
    assert!(!stage.was_reached(), "something left the cage");
    assert!(stage.is_untouched(), "a file was changed");
}

pub(crate) fn every_lie_is_ended() {
    let programs = Programs::new();
    let _stage = Stage::new(programs.path());
    for lie in LIES {
        let program = programs.named(&format!("{LIE}{}", file_name(lie.name)));
        let begun = Instant::now();
        let error = heard(&program);
        let text = error.to_string();
        println!("{:<34} {text:.90}", lie.name);
        assert!(text.contains(lie.found), "{}: {text}", lie.name);
        let silent = matches!(error, MediaError::Stalled(_));
        assert!(silent || matches!(error, MediaError::Crashed(_)), "{}: {error:?}", lie.name);
        assert!(begun.elapsed() < DEADLINE / 2, "{}: {:?}", lie.name, begun.elapsed());
    }
}

/// Slashes are no part of a name.
pub(crate) fn file_name(probe: &str) -> String {
    probe.replace('/', "%")
}

/// How the child ended, by the parent's account.
pub(crate) fn heard(program: &Path) -> MediaError {
    let limits = Limits { max_stall_ms: SILENCE_MS, ..Limits::default() };
    let request = Request { limits: limits.clone(), task: Task::Transcode };
    let (program, sandbox) = (program.to_owned(), Sandbox::BestEffort);
    let media = Media::new(MediaConfig { program, limits, sandbox });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut child = media.start(request, Vec::new(), DEADLINE).await.expect("a start");
        loop {
            match child.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a good end"),
                Err(error) => return error,
            }
        }
    })
}

pub(crate) fn verdict(error: &MediaError) -> String {
    match error {
        MediaError::Crashed(text) if text.contains("signal: 31") => "killed by SIGSYS".into(),
        MediaError::Failed { detail, .. } => detail.clone(),
        other => other.to_string(),
    }
}

/// The same, as the probe expects it.
pub(crate) fn expected(refusal: Refusal) -> String {
    match refusal {
        Refusal::Killed => "killed by SIGSYS".into(),
        Refusal::Fails(errno, _) => {
            format!("refused: {}", std::io::Error::from_raw_os_error(errno))
        }
        Refusal::Finds(what, _) => format!("did: {what}"),
    }
}

pub(crate) fn said(refusal: Refusal) -> String {
    match refusal {
        Refusal::Killed => "seccomp: killed by SIGSYS".into(),
        Refusal::Fails(errno, layer) => {
            format!("{layer}: {}", std::io::Error::from_raw_os_error(errno))
        }
        Refusal::Finds(what, by) => format!("{by}: finds {what}"),
    }
}
