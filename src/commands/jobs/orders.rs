//! Retry, cancel and priority: one call of the database's function per stage, its sentence for the person who asked.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use pipeline::db::operators::JobFilter;
use pipeline::db::{Db, DbError, Ordered};
use pipeline::job::JobState;
use pipeline::stage::Stage;
use pipeline::video::VideoId;

use super::{NOT_FOUND, REFUSED};

const OPEN: [JobState; 2] = [JobState::Pending, JobState::Running];

pub(super) async fn retry(
    db: &Db,
    video: VideoId,
    stage: Option<Stage>,
) -> anyhow::Result<ExitCode> {
    if let Some(stage) = stage {
        return told(&db.rerun(video, stage).await?);
    }
    let dead = stages_in(db, video, &[JobState::Dead]).await?;
    if dead.is_empty() {
        return nothing(db, video, "dead").await;
    }
    let mut all = ExitCode::SUCCESS;
    for stage in dead {
        let code = told(&db.rerun(video, stage).await?)?;
        if code != ExitCode::SUCCESS {
            all = code;
        }
    }
    Ok(all)
}

pub(super) async fn cancel(
    db: &Db,
    video: VideoId,
    stage: Option<Stage>,
) -> anyhow::Result<ExitCode> {
    if let Some(stage) = stage {
        return told(&db.cancel(video, stage).await?);
    }
    let mut open = stages_in(db, video, &OPEN).await?;
    if open.is_empty() {
        return nothing(db, video, "waiting or running").await;
    }
    let mut tried = Vec::new();
    // The first may take others with it, one that ends meanwhile is as good, and a refusal is no reason to let the
    // others run.
    while let Some(stage) = open.iter().find(|stage| !tried.contains(*stage)).copied() {
        told(&db.cancel(video, stage).await?)?;
        tried.push(stage);
        open = stages_in(db, video, &OPEN).await?;
    }
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

pub(super) async fn priority(db: &Db, video: VideoId, priority: i16) -> anyhow::Result<ExitCode> {
    let jobs = db.set_priority(video, priority).await?;
    if jobs == 0 {
        return nothing(db, video, "waiting or running").await;
    }
    writeln!(
        stdout(),
        "{jobs} jobs of {video} have priority {priority}, and so will its next ones"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The stages of a video whose jobs are in one of these states, in their order.
async fn stages_in(db: &Db, video: VideoId, states: &[JobState]) -> Result<Vec<Stage>, DbError> {
    let filter = JobFilter { state: None, stage: None, video: Some(video), limit: u32::MAX };
    let jobs = db.jobs(&filter).await?;
    let wanted = jobs.iter().filter(|job| states.contains(&job.state));
    let mut found: Vec<Stage> = wanted.map(|job| job.stage).collect();
    found.sort_unstable();
    Ok(found)
}

async fn nothing(db: &Db, video: VideoId, what: &str) -> anyhow::Result<ExitCode> {
    Ok(match db.explain(video).await? {
        Some(sentence) => {
            eprintln!("No stage of {video} is {what}. {sentence}");
            ExitCode::from(REFUSED)
        }
        None => no_such_video(video),
    })
}

pub(super) fn no_such_video(video: VideoId) -> ExitCode {
    eprintln!("There is no video {video}; `clipstream jobs list` shows ids.");
    ExitCode::from(NOT_FOUND)
}

fn told(ordered: &Ordered) -> anyhow::Result<ExitCode> {
    Ok(match ordered {
        Ordered::Done(sentence) => {
            writeln!(stdout(), "{sentence}")?;
            ExitCode::SUCCESS
        }
        Ordered::Refused(why) => {
            eprintln!("{why}");
            ExitCode::from(REFUSED)
        }
        Ordered::NoSuchVideo(why) => {
            eprintln!("{why}; `clipstream jobs list` shows ids");
            ExitCode::from(NOT_FOUND)
        }
    })
}
