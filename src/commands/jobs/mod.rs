//! `clipstream jobs list|show|retry|cancel|priority|dead`: the operator's hands on single jobs.
//! What may be done is decided by the functions of the database, which psql users call as well.

mod orders;
mod show;

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::db::Db;
use pipeline::db::operators::{JobFilter, JobSummary};
use pipeline::job::JobState;
use pipeline::stage::Stage;
use pipeline::video::VideoId;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{database, table};
use crate::config::DatabaseSettings;

const REFUSED: u8 = 1;
const NOT_FOUND: u8 = 3;

/// Look at jobs, run them again, cancel them
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: JobsCommand,
    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Subcommand)]
enum JobsCommand {
    /// List jobs, those that changed last first
    List {
        /// Only those that are pending, running, done, dead or cancelled
        #[arg(long, value_name = "STATE", value_parser = job_state)]
        state: Option<JobState>,
        #[command(flatten)]
        which: Which,
    },
    /// List the jobs that are dead, with the reason: they stay until they are run again
    Dead {
        #[command(flatten)]
        which: Which,
    },
    /// Say why a video waits or how it ended, with its jobs and every try of them
    Show {
        video: VideoId,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Run a stage of a video again; without a stage, all that are dead
    Retry { video: VideoId, stage: Option<Stage> },
    /// Cancel a stage that waits or runs; without a stage, all of the video
    #[command(
        long_about = "Cancel a stage that waits or runs; without a stage, all of the video.\n\nA worker that runs it \
                      stops within five seconds. Without duplicate detection or transcode the video is failed, cause \
                      cancelled; without one of the others it becomes ready."
    )]
    Cancel { video: VideoId, stage: Option<Stage> },
    /// Give a video's jobs that have not ended a head start in their owner's line
    #[command(
        long_about = "Give a video's jobs that have not ended a head start in their owner's line.\n\nEach step is worth ten \
                      minutes of waiting; a negative one lets others go first. The video's next jobs inherit it. It buys \
                      nothing from other owners."
    )]
    Priority {
        video: VideoId,
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-1_000..=1_000))]
        priority: i16,
    },
}

#[derive(clap::Args)]
struct Which {
    /// Only this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<Stage>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = database::open(&args.database).await?;
    match args.command {
        JobsCommand::List { state, which } => list(&db, state, &which).await,
        JobsCommand::Dead { which } => list(&db, Some(JobState::Dead), &which).await,
        JobsCommand::Show { video, json } => show::run(&db, video, json).await,
        JobsCommand::Retry { video, stage } => orders::retry(&db, video, stage).await,
        JobsCommand::Cancel { video, stage } => orders::cancel(&db, video, stage).await,
        JobsCommand::Priority { video, priority } => orders::priority(&db, video, priority).await,
    }
}

async fn list(db: &Db, state: Option<JobState>, which: &Which) -> anyhow::Result<ExitCode> {
    let filter = JobFilter { state, stage: which.stage, video: None, limit: which.limit };
    let jobs = db.jobs(&filter).await?;
    if which.json {
        let items = jobs.iter().map(document).collect::<anyhow::Result<Vec<_>>>()?;
        writeln!(stdout(), "{:#}", json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        eprintln!("There is no such job.");
        return Ok(ExitCode::SUCCESS);
    }
    write_table(&jobs)?;
    Ok(ExitCode::SUCCESS)
}

fn write_table(jobs: &[JobSummary]) -> anyhow::Result<()> {
    let rows: anyhow::Result<Vec<Vec<String>>> = jobs.iter().map(cells).collect();
    let heading = ["VIDEO", "STAGE", "STATE", "SINCE", "ATTEMPT", "STRIKES", "REASON"];
    Ok(table::write(&mut stdout(), &heading, &rows?)?)
}

fn cells(job: &JobSummary) -> anyhow::Result<Vec<String>> {
    let state = match (job.state, job.progress) {
        (JobState::Running, Some(progress)) => format!("running {:.0} %", progress * 100.0),
        (state, _) => state.as_str().to_owned(),
    };
    let reason = match (&job.cause, &job.error) {
        (Some(cause), Some(error)) => format!("{cause}: {error}"),
        (cause, error) => table::cell(cause.as_deref().or(error.as_deref())),
    };
    Ok(vec![
        job.video.to_string(),
        job.stage.to_string(),
        state,
        second(job.since)?,
        job.attempt.to_string(),
        format!("{}/{}/{}", job.failures, job.crashes, job.lost_workers),
        table::cell(Some(&reason)),
    ])
}

fn document(job: &JobSummary) -> anyhow::Result<Value> {
    Ok(json!({
        "job_id": job.job,
        "video_id": job.video,
        "stage": job.stage,
        "state": job.state,
        "since": job.since.format(&Rfc3339)?,
        "run_at": job.run_at.format(&Rfc3339)?,
        "attempt": job.attempt,
        "failures": job.failures,
        "crashes": job.crashes,
        "lost_workers": job.lost_workers,
        "progress": job.progress,
        "cause": job.cause,
        "error": job.error,
    }))
}

/// Fractions of a second are noise in a table.
fn second(at: OffsetDateTime) -> anyhow::Result<String> {
    Ok(at.replace_nanosecond(0)?.format(&Rfc3339)?)
}

fn job_state(word: &str) -> Result<JobState, String> {
    JobState::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
        format!("{word:?} is no state of a job: pending, running, done, dead or cancelled")
    })
}
