//! What the stages need on this machine: space for scratch, a media child that starts, and speech.

use std::io;
use std::path::Path;
use std::time::Duration;

use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Request, Task};
use pipeline::media::{Media, MediaConfig, MediaError};
use pipeline::speech::Speech;
use pipeline::stages::source::Space;
use pipeline::video::FailureCause;

use super::report::{Finding, Report};
use crate::config::{DaemonSettings, SpeechSettings};

/// A source that is worked on lies on scratch, all of it in the end.
const LITTLE_SPACE: u64 = 10 * GIB;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const CHILD_DEADLINE: Duration = Duration::from_secs(10);
const SPEECH_PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn scratch(report: &mut Report, settings: &DaemonSettings) -> io::Result<()> {
    let directory = settings.scratch();
    report.add(match looked_at(&directory, settings.scratch_floor_bytes()) {
        Ok(found) => space(&directory, found),
        Err(error) => Finding::fail("scratch", format!("{}: {error}", directory.display()))
            .mend("set CLIPSTREAM_SCRATCH to a directory that this user may write"),
    })
}

fn looked_at(directory: &Path, floor_bytes: Option<u64>) -> io::Result<Space> {
    std::fs::create_dir_all(directory)?;
    Space::of(directory, floor_bytes)
}

fn space(directory: &Path, found: Space) -> Finding {
    let Space { free_bytes: free, floor_bytes: floor, .. } = found;
    let text = format!(
        "{} MiB free in {}, of which {} must stay so",
        free / MIB,
        directory.display(),
        floor / MIB
    );
    let remedy = "sources lie there while they are worked on: free some, or set CLIPSTREAM_SCRATCH to a larger disk";
    if free < floor {
        Finding::fail("scratch", text).mend(remedy)
    } else if free < LITTLE_SPACE {
        Finding::warn("scratch", text).mend(remedy)
    } else {
        Finding::ok("scratch", text)
    }
}

/// What holds of the media child's cage, found out by entering one.
pub(super) async fn sandbox(report: &mut Report, settings: &DaemonSettings) -> io::Result<()> {
    let sandbox = settings.sandbox();
    // Best effort, so that the answer is what there is, and not only that it is not enough.
    let level = match media(Sandbox::BestEffort)?.probe().await {
        Ok(level) => level,
        Err(error) => return report.add(Finding::fail("sandbox", error.to_string())),
    };
    if let Some(refusal) = sandbox.refusal(&level) {
        return report.add(Finding::fail("sandbox", level.to_string()).mend(refusal));
    }
    let remedies: Vec<_> = level.missing.iter().map(|missing| missing.layer.remedy()).collect();
    report.add(if remedies.is_empty() {
        Finding::ok("sandbox", level.to_string())
    } else {
        Finding::warn("sandbox", level.to_string()).mend(remedies.join("; "))
    })
}

/// A child that starts and reads its input says that an empty file is empty.
pub(super) async fn media_child(report: &mut Report, settings: &DaemonSettings) -> io::Result<()> {
    report.add(match run_child(settings.sandbox()).await {
        Err(MediaError::Failed { cause: FailureCause::EmptyFile, .. }) => {
            Finding::ok("media child", "starts, and refuses an empty file as it should")
        }
        Ok(()) => Finding::fail("media child", "took an empty file for a video"),
        Err(error) => Finding::fail("media child", error.to_string())
            .mend("is this binary complete, and are the libav libraries of its build installed?"),
    })
}

fn media(sandbox: Sandbox) -> io::Result<Media> {
    let program = std::env::current_exe()?;
    Ok(Media::new(MediaConfig { program, limits: Limits::default(), sandbox }))
}

async fn run_child(sandbox: Sandbox) -> Result<(), MediaError> {
    let media = media(sandbox)?;
    let request = Request { limits: Limits::default(), task: Task::ExtractAudio };
    let mut child = media.start(request, Vec::new(), CHILD_DEADLINE).await?;
    while child.next().await?.is_some() {}
    Ok(())
}

/// Without it videos still become ready; their speech-to-text is dead until it is mended.
pub(super) async fn speech(report: &mut Report, settings: &SpeechSettings) -> io::Result<()> {
    let speech = match settings.speech() {
        Ok(config) => Speech::new(config),
        Err(error) => return report.add(Finding::fail("speech", error.to_string())),
    };
    report.add(match tokio::time::timeout(SPEECH_PATIENCE, speech.check()).await {
        Ok(Ok(text)) => Finding::ok("speech", text),
        Ok(Err(text)) => Finding::fail("speech", text),
        Err(_) => Finding::fail("speech", format!("no answer within {SPEECH_PATIENCE:?}"))
            .mend("is the server at SPEECH_URL up?"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_told_before_there_is_none() {
        let verdict = |free_bytes| {
            let found = Space { total_bytes: 100 * GIB, free_bytes, floor_bytes: GIB };
            format!("{:?}", space(Path::new("/scratch"), found))
        };
        assert!(verdict(GIB / 2).contains("Fail"));
        assert!(verdict(5 * GIB).contains("Warn"));
        assert!(verdict(50 * GIB).contains("Ok"));
    }
}
