//! The daemon, composed: the parts that a process' roles ask for, started together and ended together.
//!
//! It starts while MinIO or Redis is away; the parts wait and heal. It waits for Postgres, and refuses a schema that it
//! does not know. A part that ends by itself ends the process: half a daemon is worse than none.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use pipeline::db::schema::SchemaMismatch;
use pipeline::db::{Db, DbError};
use pipeline::gc::GcConfig;
use pipeline::media::MediaError;
use pipeline::queue::{Queue, QueueError};
use pipeline::speech::Speech;
use pipeline::stages::{Scratch, Tools};
use pipeline::storage::{Storage, StorageError};
use pipeline::{dispatch, gc, reconcile, worker};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caged::{Caged, caged};
use crate::config::Config;
use crate::event_rules;
use crate::http;
use crate::lifecycle::Lifecycle;
use crate::readiness::Readiness;

/// The settings of the main address, for errors.
const API: &str = "API_HOST and API_PORT";
const POSTGRES_PAUSE: Duration = Duration::from_millis(500);
const POSTGRES_REMINDER: u32 = 20;

/// Why the daemon does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(
        "cannot listen on {address}: {source}. Is another program there? {settings} choose another place"
    )]
    Listen { address: SocketAddr, source: io::Error, settings: &'static str },
    #[error("DATABASE_URL cannot be used: {0}")]
    Database(DbError),
    #[error(transparent)]
    Storage(StorageError),
    #[error(transparent)]
    Queue(QueueError),
    #[error("the scratch directory {} cannot be used: {source}. CLIPSTREAM_SCRATCH chooses another", path.display())]
    Scratch { path: PathBuf, source: io::Error },
    #[error("no media child can be used, and without one nothing is decoded: {0}")]
    MediaChild(MediaError),
    #[error("the HTTP server could not start: {0}")]
    Http(io::Error),
    #[error(transparent)]
    Schema(SchemaMismatch),
    #[error("{0} ended by itself, which is a defect; the log says more")]
    PartEnded(&'static str),
}

/// A daemon that listens and does not run yet.
pub struct App {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    metrics_listener: TcpListener,
    metrics_address: SocketAddr,
    db: Db,
    storage: Storage,
    queue: Queue,
    started: CancellationToken,
}

/// The parts that run, each with its name.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<()>,
    /// Those of them that servers outlive.
    loops: TaskTracker,
    names: HashMap<Id, &'static str>,
}

impl App {
    /// Binds the configured address; port 0 takes a free one.
    pub fn build(config: Config) -> Result<Self, AppError> {
        let listener = bind(config.listen, API)?.0;
        Self::build_on(listener, config)
    }

    /// For whoever must know the address before the rest of the configuration is known.
    pub fn build_on(listener: TcpListener, config: Config) -> Result<Self, AppError> {
        let address = listener.local_addr().map_err(|source| AppError::Listen {
            address: config.listen,
            source,
            settings: API,
        })?;
        let (metrics_listener, metrics_address) =
            bind(config.metrics_listen, "METRICS_HOST and METRICS_PORT")?;
        let db = Db::connect(&config.database_url, config.database_max_connections)
            .map_err(AppError::Database)?;
        let storage = Storage::new(&config.storage).map_err(AppError::Storage)?;
        let queue = Queue::new(&config.queue).map_err(AppError::Queue)?;
        Ok(Self {
            config,
            listener,
            address,
            metrics_listener,
            metrics_address,
            db,
            storage,
            queue,
            started: CancellationToken::new(),
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Fires when all parts run.
    #[must_use]
    pub fn started(&self) -> CancellationToken {
        self.started.clone()
    }

    /// Runs until the lifecycle stops it and every part has ended, or until a part fails.
    pub async fn run(self, lifecycle: &Lifecycle) -> Result<(), AppError> {
        let works = !self.config.roles.stages.is_empty();
        let media = if works { Some(caged(&self.config.media).await) } else { None };
        let media = media.transpose().map_err(AppError::MediaChild)?;
        let scratch = works.then(|| self.scratch()).transpose()?;
        let soft = lifecycle.soft();
        let (db, queue, storage) = (self.db.clone(), self.queue.clone(), self.storage.clone());
        let readiness = Readiness::new(db, queue, storage, scratch.clone(), soft.clone());
        let mut parts = Parts::default();
        // From the beginning, and to the end: what is wrong meanwhile is what operators want to see.
        self.start_metrics(&mut parts, &readiness, media.as_ref(), &soft)?;
        if !self.wait_for_postgres(&readiness, &soft).await? {
            return parts.run(lifecycle).await;
        }
        self.start_loops(&mut parts, media.zip(scratch), lifecycle);
        self.start_http(&mut parts, &readiness, &soft)?;
        self.started.cancel();
        tracing::info!(
            address = %self.address,
            metrics = %self.metrics_address,
            roles = ?self.config.roles,
            "started"
        );
        let outcome = parts.run(lifecycle).await;
        tracing::info!("stopped");
        outcome
    }

    fn scratch(&self) -> Result<Scratch, AppError> {
        let path = self.config.scratch.clone();
        let scratch =
            Scratch::open(path.clone()).map_err(|source| AppError::Scratch { path, source })?;
        Ok(scratch.with_floor(self.config.scratch_floor_bytes))
    }

    /// Alive, but serving nothing, until the schema is known to be ours. False when stopped meanwhile.
    async fn wait_for_postgres(
        &self,
        readiness: &Arc<Readiness>,
        soft: &CancellationToken,
    ) -> Result<bool, AppError> {
        let alive = self.server(readiness, false, false)?;
        let handle = alive.handle();
        let mut tries = 0;
        let check = async {
            loop {
                let problem = match self.db.check_schema().await {
                    Ok(()) => return Ok(true),
                    Err(SchemaMismatch::Db(DbError::Unavailable(problem))) => problem,
                    Err(mismatch) => return Err(AppError::Schema(mismatch)),
                };
                if tries % POSTGRES_REMINDER == 0 {
                    tracing::warn!(%problem, "waiting for Postgres; nothing is served until it answers");
                }
                tries += 1;
                tokio::time::sleep(POSTGRES_PAUSE).await;
            }
        };
        let outcome = tokio::select! {
            ended = alive => ended.map_err(AppError::Http).and(Err(AppError::PartEnded("http"))),
            outcome = check => outcome,
            () = soft.cancelled() => Ok(false),
        };
        // Connections that wait meanwhile stay in the listener's queue for the real server.
        handle.stop(false).await;
        outcome
    }

    fn server(
        &self,
        readiness: &Arc<Readiness>,
        api: bool,
        webhook: bool,
    ) -> Result<Server, AppError> {
        let listener = self.listener.try_clone().map_err(AppError::Http)?;
        let state = http::State {
            db: self.db.clone(),
            storage: self.storage.clone(),
            readiness: Arc::clone(readiness),
            webhook_token: self.config.webhook_token.clone(),
            max_size_bytes: self.config.media.limits.max_size_bytes,
            api,
            webhook,
        };
        http::server(listener, state).map_err(AppError::Http)
    }

    /// Answers until the last loop has ended, so that a drain of minutes is seen (`/readyz` says so from its first moment)
    /// and is not taken for a dead process.
    fn start_http(
        &self,
        parts: &mut Parts,
        readiness: &Arc<Readiness>,
        soft: &CancellationToken,
    ) -> Result<(), AppError> {
        let server = self.server(readiness, self.config.roles.api, self.config.roles.webhook)?;
        parts.serve("http", server, soft);
        Ok(())
    }

    fn start_metrics(
        &self,
        parts: &mut Parts,
        readiness: &Arc<Readiness>,
        media: Option<&Caged>,
        soft: &CancellationToken,
    ) -> Result<(), AppError> {
        let listener = self.metrics_listener.try_clone().map_err(AppError::Http)?;
        let state = http::MetricsState {
            db: self.db.clone(),
            storage: self.storage.clone(),
            readiness: Arc::clone(readiness),
            sandbox: media.map_or_else(Vec::new, Caged::layers),
        };
        let server = http::metrics_server(listener, state).map_err(AppError::Http)?;
        parts.serve("metrics", server, soft);
        Ok(())
    }

    fn start_loops(
        &self,
        parts: &mut Parts,
        work: Option<(Caged, Scratch)>,
        lifecycle: &Lifecycle,
    ) {
        let Self { config, db, storage, queue, .. } = self;
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        if config.roles.dispatch {
            let dispatch = config.dispatch.clone();
            parts.start(
                "dispatch",
                dispatch::run(dispatch, db.clone(), queue.clone(), soft.clone()),
            );
            let reconcile = config.reconcile.clone();
            parts.start(
                "reconcile",
                reconcile::run(reconcile, db.clone(), storage.clone(), soft.clone()),
            );
            let url = config.webhook_url.clone();
            parts.start("event rules", event_rules::check(storage.clone(), url, soft.clone()));
        }
        if let Some((Caged { media, .. }, scratch)) = work {
            let tools = Tools {
                storage: storage.clone(),
                media,
                speech: Arc::new(Speech::new(config.speech.clone())),
                scratch,
            };
            // With the workers: who may write results has the right to delete them.
            let gc = gc::run(GcConfig::default(), db.clone(), storage.clone(), soft.clone());
            parts.start("gc", gc);
            let worker = config.worker.clone();
            let run = worker::run(worker, db.clone(), queue.clone(), tools, soft, hard);
            parts.start("worker", run);
        }
    }
}

fn bind(
    address: SocketAddr,
    settings: &'static str,
) -> Result<(TcpListener, SocketAddr), AppError> {
    let refused = |source| AppError::Listen { address, source, settings };
    let listener = TcpListener::bind(address).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

impl Parts {
    /// A loop: ends by itself after the stop.
    fn start(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(self.loops.track_future(part));
        self.names.insert(task.id(), name);
    }

    /// A server: ends, with the requests it has, once there was a stop and no loop is left.
    fn serve(&mut self, name: &'static str, server: Server, soft: &CancellationToken) {
        let (handle, soft, loops) = (server.handle(), soft.clone(), self.loops.clone());
        let task = self.tasks.spawn(async move {
            let stop = async {
                soft.cancelled().await;
                loops.close();
                loops.wait().await;
                handle.stop(true).await;
            };
            let (ended, ()) = tokio::join!(server, stop);
            if let Err(error) = ended {
                tracing::error!(%error, part = name, "a server failed");
            }
        });
        self.names.insert(task.id(), name);
    }

    /// Until all have ended. The first that ends without being asked, or panics, stops the others.
    async fn run(mut self, lifecycle: &Lifecycle) -> Result<(), AppError> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, panicked) = match ended {
                Ok((id, ())) => (id, None),
                Err(error) => (error.id(), Some(error)),
            };
            let name = self.names.get(&id).copied().unwrap_or("a part");
            if let Some(error) = &panicked {
                tracing::error!(part = name, %error, "panicked");
            }
            if outcome.is_ok() && (panicked.is_some() || !lifecycle.soft().is_cancelled()) {
                outcome = Err(AppError::PartEnded(name));
            }
            lifecycle.stop();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_stops_the_others_and_is_named() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft();
        let mut parts = Parts::default();
        parts.start("patient", async move { soft.cancelled().await });
        parts.start("broken", async { panic!("on purpose") });
        let error = parts.run(&lifecycle).await.expect_err("one of them broke");
        assert!(matches!(error, AppError::PartEnded("broken")), "{error}");
    }

    #[tokio::test]
    async fn parts_that_end_after_the_stop_are_no_error() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft();
        let mut parts = Parts::default();
        parts.start("patient", async move { soft.cancelled().await });
        lifecycle.stop();
        assert!(parts.run(&lifecycle).await.is_ok());
    }
}
