//! `clipstream dev`: everything on this machine, in one process tree. Private servers under `.clipstream/`, and the
//! daemon with all roles in this very process. Not for production: all of it listens on loopback only.

mod directory;
mod notice;
mod reset;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use pipeline::db::Db;
use pipeline::media::MediaConfig;
use pipeline::media::cage::Sandbox;
use pipeline::queue::QueueConfig;
use pipeline::reconcile::ReconcileConfig;
use pipeline::storage::{Storage, StorageConfig, webhook_targets};
use url::Url;

use crate::app::App;
use crate::config::{
    Config, LimitSettings, METRICS_PORT, Roles, SpeechSettings, WEBHOOK_PATH, WorkerSettings,
    cache_dir, media_program,
};
use crate::lifecycle::{Lifecycle, Signals};
use crate::supervisor::{Stack, State, free_or_other, free_port};

use directory::Directory;
use notice::Notice;

const DEFAULT_PORT: u16 = 8000;
const BUCKET: &str = "clipstream";
const REGION: &str = "us-east-1";
const PREFIX: &str = "clipstream:";
const MAX_CONNECTIONS: u32 = 30;
/// Somebody waits at the keyboard: running jobs are given back soon, and go on at the next start.
const DRAIN: Duration = Duration::from_secs(5);
/// Drain, and the orderly stop of three servers.
const PATIENCE: Duration = Duration::from_secs(45);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// The port of the API and the webhook [default: that of the last start, else 8000, else a free one]
    #[arg(long, env = "API_PORT", value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    speech: SpeechSettings,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Wipe all videos, rows and events of a stopped `clipstream dev`
    Reset(reset::Args),
}

#[derive(clap::Args, Clone)]
struct Place {
    /// Where the servers keep their files
    #[arg(long, default_value = ".clipstream", value_name = "DIRECTORY")]
    dir: PathBuf,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Reset(reset)) = args.command {
        return reset::run(&reset);
    }
    let signals = Signals::catch()?;
    let lifecycle = Lifecycle::new();
    // A large future: everything that the daemon waits for is inside.
    let work = Box::pin(supervise(&args, &lifecycle));
    lifecycle.shepherd(signals, PATIENCE, work).await?
}

/// From the first server's start to the last one's end. Dropped in the middle, it leaves no process, and files that the
/// next start can use.
async fn supervise(args: &Args, lifecycle: &Lifecycle) -> anyhow::Result<ExitCode> {
    let directory = Directory::open(&args.place.dir)?;
    let mut state = State::load_or_new(&directory.state())?;
    let listener = listen(args.port, state.api_port)?;
    let port = listener.local_addr()?.port();
    state.api_port = Some(port);
    state.save(&directory.state())?;
    let url = Url::parse(&format!("http://127.0.0.1:{port}"))?;

    tracing::info!(directory = %directory.path().display(), "starting Postgres, Redis and MinIO");
    let webhook = url.join(WEBHOOK_PATH)?;
    let cache = cache_dir();
    let hard = lifecycle.hard();
    let stack = tokio::select! {
        stack = Stack::start(directory.path(), &state, cache.as_deref(), webhook.as_str()) => stack?,
        () = hard.cancelled() => return Ok(ExitCode::FAILURE),
    };
    let outcome = with_stack(args, lifecycle, &directory, state, &stack, listener, &url).await;
    directory.remove_env()?;
    stack.stop().await;
    tracing::info!("everything is stopped; the data stays for the next start");
    outcome
}

/// Sets up what is missing, then runs the daemon until it is stopped or a server dies.
async fn with_stack(
    args: &Args,
    lifecycle: &Lifecycle,
    directory: &Directory,
    mut state: State,
    stack: &Stack,
    listener: TcpListener,
    url: &Url,
) -> anyhow::Result<ExitCode> {
    let config = config(args, directory, &state, stack, listener.local_addr()?)?;
    let soft = lifecycle.soft();
    let api_key = tokio::select! {
        key = set_up(&config, state.api_key.take()) => key?,
        death = stack.first_death() => anyhow::bail!("{death}"),
        () = soft.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    state.api_key = Some(api_key.clone());
    state.save(&directory.state())?;

    let app = App::build_on(listener, config)?;
    let started = app.started();
    let metrics = app.metrics_address();
    let notice = Notice::new(directory, &state, stack, url, metrics, &api_key);
    let announce = async {
        started.cancelled().await;
        notice.publish(directory)
    };
    let running = app.run(lifecycle);
    tokio::pin!(running, announce);
    let (mut announced, mut death) = (false, None);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            published = &mut announce, if !announced => {
                announced = true;
                published?;
            }
            dead = stack.first_death(), if death.is_none() => {
                // The daemon could wait for a server that comes back, but this one will not.
                tracing::error!("{dead}");
                lifecycle.stop();
                death = Some(dead);
            }
        }
    };
    ended?;
    match death {
        None => Ok(ExitCode::SUCCESS),
        Some(death) => {
            Err(anyhow::anyhow!("{death}\nStart again with `clipstream dev`: the data is kept"))
        }
    }
}

/// Everything that a start needs and an earlier one may have done. Returns a key that works.
async fn set_up(config: &Config, api_key: Option<String>) -> anyhow::Result<String> {
    let db = Db::connect(&config.database_url, 2)?;
    let applied = db.migrate().await.context("migrating the database")?;
    tracing::info!(applied, "the database is migrated");
    let storage = Storage::new(&config.storage)?;
    storage.ensure_bucket().await.context("making the bucket")?;
    storage.ensure_policy().await.context("setting the policy of the bucket")?;
    let rules = storage.ensure_notifications(&webhook_targets()).await;
    let rules = rules.context("setting the event rules of the bucket")?;
    if let Some(missing) = rules.missing.first() {
        anyhow::bail!(
            "MinIO did not take the webhook target {}; logs/minio.log says why",
            missing.id
        );
    }
    tracing::info!(bucket = BUCKET, "bucket, policy and event rules are set");
    if let Some(key) = api_key
        && db.owner_of_api_key(&key).await?.is_some()
    {
        return Ok(key);
    }
    Ok(db.create_api_key("default", "clipstream dev").await?.key)
}

fn config(
    args: &Args,
    directory: &Directory,
    state: &State,
    stack: &Stack,
    listen: std::net::SocketAddr,
) -> anyhow::Result<Config> {
    let endpoint = Url::parse(&stack.minio.endpoint())?;
    let roles = Roles::all();
    Ok(Config {
        listen,
        metrics_listen: (Ipv4Addr::LOCALHOST, free_or_other(Some(METRICS_PORT))?).into(),
        database_url: stack.postgres.url(),
        database_max_connections: MAX_CONNECTIONS,
        storage: StorageConfig {
            endpoint: endpoint.clone(),
            public_endpoint: endpoint,
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: state.minio_user.clone(),
            secret_key: state.minio_password.clone(),
        },
        queue: QueueConfig { url: stack.redis.url(), prefix: PREFIX.to_owned() },
        speech: args.speech.speech()?,
        webhook_token: state.webhook_token.clone(),
        webhook_url: None,
        worker: args.worker.worker(&roles.stages, DRAIN),
        dispatch: args.worker.dispatch(),
        reconcile: ReconcileConfig::default(),
        scratch: directory.scratch(),
        scratch_floor_bytes: None,
        media: MediaConfig {
            program: media_program()?,
            limits: args.limits.limits(),
            // Somebody's own machine and own files: whatever it grants.
            sandbox: args.worker.sandbox(Sandbox::BestEffort),
        },
        roles,
    })
}

/// The wanted port or none; without a wish the last one, then 8000, then any.
fn listen(wanted: Option<u16>, last: Option<u16>) -> anyhow::Result<TcpListener> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = wanted {
        return bind(port).with_context(|| {
            format!(
                "cannot listen on port {port}. Leave --port and API_PORT out to take a free one"
            )
        });
    }
    let usual = [last, Some(DEFAULT_PORT)].into_iter().flatten().find_map(|port| bind(port).ok());
    match usual {
        Some(listener) => Ok(listener),
        None => Ok(bind(free_port()?)?),
    }
}

/// Relative paths would mean something else to the servers, whose working directories are their own.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))
}
