//! `clipstream serve`: the daemon on servers that somebody else runs.

use std::process::ExitCode;
use std::time::Duration;

use crate::app::App;
use crate::config::{
    DaemonSettings, DatabaseSettings, MinioSettings, RedisSettings, SpeechSettings, WebhookSettings,
};
use crate::lifecycle::{Lifecycle, Signals};

/// What the orderly end may take beyond the jobs that run: requests, heartbeats, closing.
const BESIDE_JOBS: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Args {
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
    let Args { daemon, database, redis, minio, webhook, speech } = args;
    let config = daemon.config(&database, &minio, &webhook, &redis, &speech)?;
    let patience = config.worker.drain_timeout + BESIDE_JOBS;
    let signals = Signals::catch()?;
    let lifecycle = Lifecycle::new();
    let app = App::build(config)?;
    lifecycle.shepherd(signals, patience, Box::pin(app.run(&lifecycle))).await??;
    Ok(ExitCode::SUCCESS)
}
