//! One video for an operator: the sentence, its jobs, every try.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use pipeline::db::Db;
use pipeline::db::operators::{AttemptRecord, JobFilter};
use pipeline::video::VideoId;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::super::table;
use super::{document, orders, second, write_table};

pub(super) async fn run(db: &Db, video: VideoId, as_json: bool) -> anyhow::Result<ExitCode> {
    let Some(sentence) = db.explain(video).await? else {
        return Ok(orders::no_such_video(video));
    };
    let filter = JobFilter { state: None, stage: None, video: Some(video), limit: u32::MAX };
    let mut jobs = db.jobs(&filter).await?;
    jobs.sort_by_key(|job| job.stage);
    let attempts = db.attempts(video).await?;
    let mut out = stdout();
    if as_json {
        let jobs = jobs.iter().map(document).collect::<anyhow::Result<Vec<_>>>()?;
        let attempts = attempts.iter().map(try_document).collect::<anyhow::Result<Vec<_>>>()?;
        let all =
            json!({ "video_id": video, "explain": sentence, "jobs": jobs, "attempts": attempts });
        writeln!(out, "{all:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{sentence}\n")?;
    write_table(&jobs)?;
    if !attempts.is_empty() {
        writeln!(out)?;
        let rows = attempts.iter().map(cells).collect::<anyhow::Result<Vec<_>>>()?;
        let heading = ["TRY OF", "ATTEMPT", "BEGAN", "TOOK", "OUTCOME", "WORKER", "DETAIL"];
        table::write(&mut out, &heading, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(attempt: &AttemptRecord) -> anyhow::Result<Vec<String>> {
    let took = attempt.ended_at.map(|ended_at| ended_at - attempt.started_at);
    Ok(vec![
        attempt.stage.clone(),
        attempt.attempt.to_string(),
        second(attempt.started_at)?,
        took.map_or_else(|| "-".to_owned(), |took| format!("{:.1} s", took.as_seconds_f64())),
        attempt.outcome.clone().unwrap_or_else(|| "running".to_owned()),
        attempt.worker.to_string(),
        table::cell(attempt.detail.as_deref()),
    ])
}

fn try_document(attempt: &AttemptRecord) -> anyhow::Result<Value> {
    Ok(json!({
        "stage": attempt.stage,
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "started_at": attempt.started_at.format(&Rfc3339)?,
        "ended_at": attempt.ended_at.map(|at| at.format(&Rfc3339)).transpose()?,
        "outcome": attempt.outcome,
        "cause": attempt.failure_cause,
        "detail": attempt.detail,
    }))
}
