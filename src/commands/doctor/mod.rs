//! `clipstream doctor`: looks at everything the daemon needs and says how to mend what is wrong.
//! It changes nothing: what it writes to see whether writing works, it removes again.

mod events;
mod report;
mod round_trip;
mod services;
mod work;

use std::process::ExitCode;

use crate::config::{
    DaemonSettings, DatabaseSettings, MinioSettings, RedisSettings, SpeechSettings, WebhookSettings,
};
use report::Report;

const FOUND_PROBLEMS: u8 = 7;

#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonSettings,
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    redis: RedisSettings,
    #[command(flatten)]
    minio: MinioSettings,
    #[command(flatten)]
    webhook: WebhookSettings,
    #[command(flatten)]
    speech: SpeechSettings,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(args.json);
    let db = services::postgres(&mut report, &args.database).await?;
    services::redis(&mut report, &args.redis).await?;
    let storage = services::minio(&mut report, &args.minio).await?;
    services::token(&mut report, &args.webhook)?;
    events::check(&mut report, storage.as_ref(), &args.webhook).await?;
    round_trip::check(&mut report, db.as_ref(), storage.as_ref()).await?;
    work::scratch(&mut report, &args.daemon)?;
    work::sandbox(&mut report, &args.daemon).await?;
    work::media_child(&mut report, &args.daemon).await?;
    work::speech(&mut report, &args.speech).await?;
    let healthy = report.end()?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(FOUND_PROBLEMS) })
}
