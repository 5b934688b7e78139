//! `clipstream events quarantined list|show|replay`: authenticated events that could not become a video.
//! Bodies come from outside: nothing of them reaches a terminal unescaped.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;
use pipeline::db::Db;
use pipeline::db::events::QuarantinedEvent;
use pipeline::intake::{self, Delivery};
use pipeline::steering::is_steering;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::database;
use crate::config::{DatabaseSettings, MinioSettings};

const FAILED: u8 = 1;
const NOT_FOUND: u8 = 3;

/// Look at events that could not be used, and try them again
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: EventsCommand,
    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Subcommand)]
enum EventsCommand {
    /// Events that were authenticated and could not become a video
    #[command(subcommand)]
    Quarantined(QuarantinedCommand),
}

#[derive(Subcommand)]
enum QuarantinedCommand {
    /// List them, the newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Print one JSON document, with the bodies
        #[arg(long)]
        json: bool,
    },
    /// Show one with its body
    Show {
        id: i64,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Take one in again, after what was wrong has been mended
    Replay {
        id: i64,
        #[command(flatten)]
        minio: Box<MinioSettings>,
    },
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let db = database::open(&args.database).await?;
    let EventsCommand::Quarantined(command) = args.command;
    match command {
        QuarantinedCommand::List { limit, json } => list(&db, limit, json).await,
        QuarantinedCommand::Show { id, json } => show(&db, id, json).await,
        QuarantinedCommand::Replay { id, minio } => replay(&db, &minio.storage()?.bucket, id).await,
    }
}

async fn list(db: &Db, limit: u32, json: bool) -> anyhow::Result<ExitCode> {
    let events = db.quarantined(limit).await?;
    let mut out = io::stdout();
    if json {
        let items = events.iter().map(document).collect::<anyhow::Result<Vec<_>>>()?;
        writeln!(out, "{:#}", json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for event in &events {
        let replayed = if event.replayed_at.is_some() { ", replayed" } else { "" };
        writeln!(
            out,
            "{:>6}  {}  x{}{replayed}  {}",
            event.id,
            event.last_seen_at.format(&Rfc3339)?,
            event.times_seen,
            escaped(&event.reason)
        )?;
    }
    if events.is_empty() {
        eprintln!("No event is quarantined.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(db: &Db, id: i64, json: bool) -> anyhow::Result<ExitCode> {
    let Some(event) = db.quarantined_event(id).await? else { return Ok(no_such_event(id)) };
    let mut out = io::stdout();
    if json {
        writeln!(out, "{:#}", document(&event)?)?;
    } else {
        eprintln!("Event {id}, came {} times: {}", event.times_seen, escaped(&event.reason));
        writeln!(out, "{}", escaped(&String::from_utf8_lossy(&event.body)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(db: &Db, bucket: &str, id: i64) -> anyhow::Result<ExitCode> {
    let Some(delivery) = intake::replay(db, bucket, id).await? else {
        return Ok(no_such_event(id));
    };
    Ok(match delivery {
        Delivery::Accepted { created, known } => {
            eprintln!("Event {id}: {created} new videos, {known} known before.");
            ExitCode::SUCCESS
        }
        Delivery::Nothing => {
            eprintln!("Event {id} holds nothing to do.");
            ExitCode::SUCCESS
        }
        Delivery::Quarantined { reason } => {
            eprintln!("Event {id} still cannot be used: {}", escaped(&reason));
            ExitCode::from(FAILED)
        }
    })
}

fn no_such_event(id: i64) -> ExitCode {
    eprintln!("There is no event {id}; `clipstream events quarantined list` shows them.");
    ExitCode::from(NOT_FOUND)
}

/// The body as text where it is text, else in hexadecimal, so that nothing is lost.
fn document(event: &QuarantinedEvent) -> anyhow::Result<Value> {
    let (encoding, body) = match std::str::from_utf8(&event.body) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("hex", hex::encode(&event.body)),
    };
    Ok(json!({
        "id": event.id,
        "received_at": event.received_at.format(&Rfc3339)?,
        "last_seen_at": event.last_seen_at.format(&Rfc3339)?,
        "times_seen": event.times_seen,
        "reason": event.reason,
        "replayed_at": event.replayed_at.map(|at| at.format(&Rfc3339)).transpose()?,
        "body_encoding": encoding,
        "body": body,
    }))
}

/// What would steer the terminal as escapes, line breaks as they are.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_steering(c) && c != '\n' {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        assert_eq!(escaped("a\u{1b}[2J\n\"ü\""), "a\\u{1b}[2J\n\"ü\"");
    }
}
