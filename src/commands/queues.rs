//! `clipstream queues [list|pause|resume]`: how long the line of each stage is, how old, and whether it moves at all.

use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use pipeline::db::Db;
use pipeline::db::queues::QueueFigures;
use pipeline::stage::Stage;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{database, table};
use crate::config::DatabaseSettings;

/// Look at the queues, pause and resume them
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<QueuesCommand>,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Subcommand)]
enum QueuesCommand {
    /// List them: what waits, what runs, how long the oldest has waited (the default)
    List,
    /// Begin nothing of a stage any more; what runs goes on to its end
    Pause {
        stage: Stage,
        /// Why, for the next person who looks
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a paused stage go on
    Resume { stage: Stage },
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = database::open(&args.database).await?;
    match args.command {
        None | Some(QueuesCommand::List) => {}
        Some(QueuesCommand::Pause { stage, reason }) => db.pause(stage, reason.as_deref()).await?,
        Some(QueuesCommand::Resume { stage }) => {
            if !db.resume(stage).await? {
                eprintln!("{stage} was not paused.");
            }
        }
    }
    // After an order too: it shows what came of it.
    list(&db, args.json).await
}

async fn list(db: &Db, json: bool) -> anyhow::Result<ExitCode> {
    let queues = db.queue_figures().await?;
    let mut out = stdout();
    if json {
        let items = queues.iter().map(document).collect::<anyhow::Result<Vec<_>>>()?;
        writeln!(out, "{:#}", json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = queues.iter().map(cells).collect::<anyhow::Result<Vec<_>>>()?;
    let heading = ["STAGE", "PENDING", "DUE", "IN REDIS", "RUNNING", "DEAD", "OLDEST", "PAUSED"];
    table::write(&mut out, &heading, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn cells(queue: &QueueFigures) -> anyhow::Result<Vec<String>> {
    let paused = match &queue.paused {
        None => "-".to_owned(),
        Some((since, reason)) => {
            let since = since.replace_nanosecond(0)?.format(&Rfc3339)?;
            format!("since {since}{}", reason.as_ref().map_or(String::new(), |r| format!(": {r}")))
        }
    };
    Ok(vec![
        queue.stage.to_string(),
        queue.pending.to_string(),
        (queue.pending - queue.waiting).to_string(),
        queue.dispatched.to_string(),
        queue.running.to_string(),
        queue.dead.to_string(),
        queue.oldest.map_or_else(|| "-".to_owned(), age),
        paused,
    ])
}

fn document(queue: &QueueFigures) -> anyhow::Result<Value> {
    let (paused_at, reason) = queue.paused.clone().unzip();
    Ok(json!({
        "stage": queue.stage,
        "pending": queue.pending,
        "due": queue.pending - queue.waiting,
        "in_redis": queue.dispatched,
        "running": queue.running,
        "dead": queue.dead,
        "oldest_seconds": queue.oldest.map(|oldest| oldest.as_secs_f64()),
        "paused_at": paused_at.map(|at| at.format(&Rfc3339)).transpose()?,
        "paused_because": reason.flatten(),
    }))
}

/// In the two largest units: nobody needs the seconds of a day.
fn age(oldest: Duration) -> String {
    match oldest.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_two_units() {
        let ages = [5, 65, 3_660, 90_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }
}
