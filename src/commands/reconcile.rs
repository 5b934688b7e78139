//! `clipstream reconcile`: one round of what the daemon does every minute, or only a look at what it would do.

use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use pipeline::reconcile::{self, Found, Interrupted, ReconcileConfig, Round};
use pipeline::storage::Storage;
use serde_json::json;

use super::{database, table};
use crate::config::{DatabaseSettings, MinioSettings};

/// Find uploads that no event announced
#[derive(clap::Args)]
#[command(
    long_about = "Find uploads that no event announced: every announced upload whose object is there, and every object \
                  under raw-uploads/ without a video. The daemon does the same by itself; this is for when you do not want to wait, or only want to know."
)]
pub struct Args {
    /// Say what a round would find, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave objects that are younger to their event
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    grace_seconds: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    minio: Box<MinioSettings>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let storage = Storage::new(&args.minio.storage()?)?;
    let db = database::open(&args.database).await?;
    let grace = Duration::from_secs(args.grace_seconds);
    let config = ReconcileConfig { grace, ..ReconcileConfig::default() };
    let Round { found, passed_over, .. } =
        match reconcile::once(config, args.dry_run, db, storage).await {
            Ok(round) => round,
            // As themselves, so that `main` sees an outage and its exit code.
            Err(Interrupted::Db(error)) => return Err(error.into()),
            Err(Interrupted::Storage(error)) => return Err(error.into()),
            Err(error @ Interrupted::Stopped) => return Err(error.into()),
        };
    let mut out = stdout();
    if args.json {
        let items = found.iter().map(|Found { key, size_bytes, video }| {
            json!({ "key": key, "size": size_bytes, "video_id": video })
        });
        let items: Vec<_> = items.collect();
        let document =
            json!({ "dry_run": args.dry_run, "items": items, "passed_over": passed_over });
        writeln!(out, "{document:#}")?;
    } else if !found.is_empty() {
        let rows: Vec<Vec<String>> = found.iter().map(cells).collect();
        table::write(&mut out, &["VIDEO", "BYTES", "KEY"], &rows)?;
        let what = if args.dry_run { "would become" } else { "became" };
        eprintln!("{} uploads {what} videos.", found.len());
    } else if passed_over.is_empty() {
        eprintln!("Every upload is known.");
    }
    for key in &passed_over {
        eprintln!("MinIO could not be asked for {}: passed over", key.escape_debug());
    }
    Ok(if passed_over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A key comes from outside: nothing of it reaches a terminal unescaped.
fn cells(found: &Found) -> Vec<String> {
    let video = found.video.map_or_else(|| "-".to_owned(), |video| video.to_string());
    vec![video, found.size_bytes.to_string(), found.key.escape_debug().to_string()]
}
