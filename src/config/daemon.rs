//! Settings of the daemon itself, and the checked whole that `app` is built from.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pipeline::dispatch::DispatchConfig;
use pipeline::media::MediaConfig;
use pipeline::media::cage::Sandbox;
use pipeline::queue::QueueConfig;
use pipeline::reconcile::ReconcileConfig;
use pipeline::speech::SpeechConfig;
use pipeline::storage::StorageConfig;
use pipeline::worker::WorkerConfig;
use url::Url;

use super::{
    ConfigError, DatabaseSettings, LimitSettings, MinioSettings, RedisSettings, Roles,
    SpeechSettings, WebhookSettings, WorkerSettings,
};

/// The usual one of exporters.
pub const METRICS_PORT: u16 = 9464;
const MIB: u64 = 1 << 20;

#[derive(Args, Clone)]
#[command(next_help_heading = "The daemon")]
pub struct DaemonSettings {
    /// The address that the API and the webhook listen on
    #[arg(long, env = "API_HOST", default_value = "0.0.0.0", value_name = "ADDRESS")]
    host: IpAddr,
    /// The port that they listen on; 0 takes a free one
    #[arg(long, env = "API_PORT", default_value_t = 8000, value_name = "PORT")]
    port: u16,
    /// The address that `/metrics` listens on; loopback, since it tells everybody who asks
    #[arg(long, env = "METRICS_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    metrics_host: IpAddr,
    /// The port that `/metrics` listens on; 0 takes a free one
    #[arg(long, env = "METRICS_PORT", default_value_t = METRICS_PORT, value_name = "PORT")]
    metrics_port: u16,
    /// What this process does: api, webhook, dispatch, worker, or all. Stages may be named: worker=transcode,embeddings
    #[arg(long, env = "CLIPSTREAM_ROLES", default_value = "all", value_name = "ROLES")]
    roles: Roles,
    /// How long running jobs may go on after SIGTERM, in seconds
    #[arg(long, env = "CLIPSTREAM_DRAIN_SECONDS", default_value_t = 60, value_name = "SECONDS")]
    drain_seconds: u64,
    /// How often the bucket is compared with the rows, in seconds
    #[arg(long, env = "CLIPSTREAM_RECONCILE_SECONDS", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    reconcile_seconds: u64,
    /// Where sources are kept while they are worked on [default: clipstream in the system's temporary directory]
    #[arg(long, env = "CLIPSTREAM_SCRATCH", value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// What must stay free where scratch is, in MiB; below it no job begins [default: a tenth of the file system, at most 1024]
    #[arg(long, env = "CLIPSTREAM_SCRATCH_FLOOR_MIB", value_name = "MIB")]
    scratch_floor_mib: Option<u32>,
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    limits: LimitSettings,
}

/// Everything that the daemon needs to know, checked. Holds secrets: it is not `Debug`.
#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub metrics_listen: SocketAddr,
    pub database_url: String,
    pub database_max_connections: u32,
    pub storage: StorageConfig,
    pub queue: QueueConfig,
    pub speech: SpeechConfig,
    pub webhook_token: String,
    /// Where MinIO reaches us, if that is known: for the lines that a missing event target needs.
    pub webhook_url: Option<Url>,
    pub roles: Roles,
    pub worker: WorkerConfig,
    pub dispatch: DispatchConfig,
    pub reconcile: ReconcileConfig,
    pub scratch: PathBuf,
    /// `None`: what is usual.
    pub scratch_floor_bytes: Option<u64>,
    pub media: MediaConfig,
}

impl DaemonSettings {
    /// Where sources are kept while they are worked on.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(|| std::env::temp_dir().join("clipstream"))
    }

    /// What must stay free there, if somebody said so.
    #[must_use]
    pub fn scratch_floor_bytes(&self) -> Option<u64> {
        self.scratch_floor_mib.map(|mib| u64::from(mib) * MIB)
    }

    /// All of the cage, unless an operator takes less.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        self.worker.sandbox(Sandbox::Required)
    }

    /// Joins all groups; the first that cannot be used is the error.
    pub fn config(
        &self,
        database: &DatabaseSettings,
        minio: &MinioSettings,
        webhook: &WebhookSettings,
        redis: &RedisSettings,
        speech: &SpeechSettings,
    ) -> Result<Config, ConfigError> {
        let webhook_token = if self.roles.webhook { webhook.token()? } else { "" };
        let drain = Duration::from_secs(self.drain_seconds);
        Ok(Config {
            listen: (self.host, self.port).into(),
            metrics_listen: (self.metrics_host, self.metrics_port).into(),
            database_url: database.url()?.to_owned(),
            database_max_connections: database.max_connections(),
            storage: minio.storage()?,
            queue: redis.queue()?,
            speech: speech.speech()?,
            webhook_token: webhook_token.to_owned(),
            webhook_url: webhook.url().ok(),
            roles: self.roles.clone(),
            worker: self.worker.worker(&self.roles.stages, drain),
            dispatch: self.worker.dispatch(),
            reconcile: ReconcileConfig {
                period: Duration::from_secs(self.reconcile_seconds),
                ..ReconcileConfig::default()
            },
            scratch: self.scratch(),
            scratch_floor_bytes: self.scratch_floor_bytes(),
            media: MediaConfig {
                program: media_program()?,
                limits: self.limits.limits(),
                sandbox: self.sandbox(),
            },
        })
    }
}

/// Ourselves: media is decoded in a child of the same binary.
pub fn media_program() -> Result<PathBuf, ConfigError> {
    std::env::current_exe().map_err(|error| {
        ConfigError(format!(
            "the path of this program is not known ({error}), and media is decoded in a child of it. \
             Is /proc mounted?"
        ))
    })
}
