//! The real daemon in this process, with all roles, on a world of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use clipstream::app::App;
use clipstream::config::{
    Config, LimitSettings, Roles, SpeechSettings, WEBHOOK_PATH, WorkerSettings,
};
use clipstream::lifecycle::Lifecycle;
use clipstream::supervisor::random_hex;
use pipeline::db::Db;
use pipeline::media::MediaConfig;
use pipeline::media::cage::Sandbox;
use pipeline::reconcile::ReconcileConfig;
use pipeline::storage::{Storage, webhook_targets};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::database::{TestDatabase, database};
use super::minio::{TestMinio, minio_with_webhook};
use super::redis::{TestRedis, redis};
use super::world;

/// A running daemon. It is stopped, at once, when this is dropped; then its servers and its database go.
pub(crate) struct TestApp {
    /// Without a slash at the end.
    pub(crate) url: String,
    pub(crate) metrics_url: String,
    pub(crate) api_key: String,
    pub(crate) webhook_token: String,
    pub(crate) db: Db,
    pub(crate) pool: PgPool,
    pub(crate) storage: Storage,
    lifecycle: Lifecycle,
    thread: Option<JoinHandle<()>>,
    pub(crate) minio: TestMinio,
    pub(crate) redis: TestRedis,
    pub(crate) database: TestDatabase,
}

impl TestApp {
    /// Asks it to stop, as SIGTERM would, and does not wait.
    pub(crate) fn begin_stop(&self) {
        self.lifecycle.stop();
    }

    /// Stops it in order, as SIGTERM would, and waits for the end. Its servers stay.
    pub(crate) fn stop(&mut self) {
        self.lifecycle.stop();
        self.join();
    }

    fn join(&mut self) {
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(!matches!(ended, Some(Err(_))), "the daemon did not end well; see above");
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.lifecycle.stop_hard();
        self.join();
    }
}

/// The settings that have defaults, with what the environment says: `CLIPSTREAM_VAD_MODEL` is one of them.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    speech: SpeechSettings,
}

pub(crate) async fn app() -> TestApp {
    app_with(|_| ()).await
}

/// A daemon whose configuration is changed before it starts.
pub(crate) async fn app_with(change: impl FnOnce(&mut Config)) -> TestApp {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let webhook_token = random_hex().expect("random bytes");
    let webhook_url = format!("{url}{WEBHOOK_PATH}");
    let (database, redis, minio) =
        tokio::join!(database(), redis(), minio_with_webhook(&webhook_url, &webhook_token));
    let api_key = database.db.create_api_key("default", "test").await.expect("a key").key;
    let mut config = config(&listener, &database, &redis, &minio, &webhook_token);
    change(&mut config);
    let storage = Storage::new(&config.storage).expect("usable settings");
    storage.ensure_policy().await.expect("a policy");
    let rules = storage.ensure_notifications(&webhook_targets()).await.expect("event rules");
    assert!(rules.missing.is_empty(), "{:?}", rules.missing);

    let app = App::build_on(listener, config).expect("a daemon");
    let metrics_url = format!("http://{}/metrics", app.metrics_address());
    let lifecycle = Lifecycle::new();
    let started = app.started();
    let thread = run(app, lifecycle.clone());
    wait_for(&started).await;
    TestApp {
        url,
        metrics_url,
        api_key,
        webhook_token,
        db: database.db.clone(),
        pool: database.pool().clone(),
        storage,
        lifecycle,
        thread: Some(thread),
        minio,
        redis,
        database,
    }
}

fn config(
    listener: &TcpListener,
    database: &TestDatabase,
    redis: &TestRedis,
    minio: &TestMinio,
    webhook_token: &str,
) -> Config {
    let defaults = Defaults::parse_from(["test"]);
    let roles = Roles::all();
    Config {
        listen: listener.local_addr().expect("it is bound"),
        metrics_listen: (Ipv4Addr::LOCALHOST, 0).into(),
        database_url: database.url.clone(),
        database_max_connections: 20,
        storage: minio.storage_config(),
        queue: redis.queue_config(),
        speech: defaults.speech.speech().expect("usable settings"),
        webhook_token: webhook_token.to_owned(),
        webhook_url: None,
        worker: defaults.worker.worker(&roles.stages, Duration::from_secs(5)),
        dispatch: defaults.worker.dispatch(),
        reconcile: ReconcileConfig::default(),
        scratch: world::directory().join("scratch"),
        scratch_floor_bytes: None,
        media: MediaConfig {
            program: super::clipstream().to_owned(),
            limits: defaults.limits.limits(),
            sandbox: defaults.worker.sandbox(Sandbox::Required),
        },
        roles,
    }
}

/// On a runtime of its own: a test may block its thread, and the daemon goes on.
fn run(app: App, lifecycle: Lifecycle) -> JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let ended = runtime.expect("a runtime").block_on(app.run(&lifecycle));
        ended.unwrap_or_else(|error| panic!("the daemon failed: {error}"));
    })
}

async fn wait_for(started: &CancellationToken) {
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, started.cancelled()).await.expect("the daemon starts");
}
