//! Pulls job ids, claims them, runs their stage, and commits what it reports, fenced by the attempt.
//!
//! Only a row says who may run a job. Losing Redis, this process or its connections at any line leaves a row that the
//! repair loops of `dispatch` bring back; a worker that lost its lease changes nothing, however long it goes on.

mod attempt;
mod breaker;
mod commit;
mod ending;
mod heartbeat;
mod held;
mod puller;
mod reports;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::db::Db;
use crate::job::WorkerId;
use crate::queue::Queue;
use crate::stage::Stage;
use crate::stages::{self, Outcome, Scratch, StageError, Tools};
use crate::storage::Storage;

pub use attempt::Attempt;

use breaker::Breaker;
use held::Held;

/// Longest that storage may take to say that it is there.
const STORAGE_PING: Duration = Duration::from_secs(2);
/// How often a full scratch is looked at.
const ROOM_LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many jobs of each stage at once; a stage that is missing here is not served.
    pub slots: Vec<(Stage, usize)>,
    /// How long a claim holds without a heartbeat; heartbeats come at a third of it.
    pub lease: Duration,
    /// How long running jobs may go on after `soft`.
    pub drain_timeout: Duration,
    pub deadlines: Deadlines,
}

impl Default for WorkerConfig {
    /// One job of each stage at once.
    fn default() -> Self {
        Self {
            slots: Stage::ALL.map(|stage| (stage, 1)).to_vec(),
            lease: Duration::from_secs(15),
            drain_timeout: Duration::from_mins(1),
            deadlines: Deadlines::default(),
        }
    }
}

/// How long one attempt of each stage may take, however alive its worker is and however much work there is. The media
/// child is given less as soon as it has said what the source holds.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    pub duplicate_detection: Duration,
    pub transcode: Duration,
    pub speech_to_text: Duration,
    pub embeddings: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            duplicate_detection: Duration::from_mins(10),
            transcode: Duration::from_hours(12),
            speech_to_text: Duration::from_hours(6),
            embeddings: Duration::from_hours(6),
        }
    }
}

impl Deadlines {
    #[must_use]
    pub const fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::DuplicateDetection => self.duplicate_detection,
            Stage::Transcode => self.transcode,
            Stage::SpeechToText => self.speech_to_text,
            Stage::Embeddings => self.embeddings,
        }
    }
}

/// Runs until `soft` fires and the running jobs have ended; `hard` ends them at once.
pub async fn run(
    config: WorkerConfig,
    db: Db,
    queue: Queue,
    tools: Tools,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let needs =
        Needs { storage: Some(tools.storage.clone()), scratch: Some(tools.scratch.clone()) };
    let run_stage = move |attempt: Attempt| {
        let tools = tools.clone();
        async move {
            let stage = attempt.lease.stage;
            stages::run(stage, &attempt.with(tools)).await
        }
    };
    run_needing(needs, config, db, queue, run_stage, soft, hard).await;
}

/// As [`run`], with something else in the place of the stages: what a harness needs that measures or breaks the
/// runner and not the media. Panics, after an orderly stop, if one of its own tasks did.
pub async fn run_with<R, F>(
    config: WorkerConfig,
    db: Db,
    queue: Queue,
    run_stage: R,
    soft: CancellationToken,
    hard: CancellationToken,
) where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    run_beside(None, config, db, queue, run_stage, soft, hard).await;
}

/// As [`run_with`], for stages that need storage: while it is away, nothing is claimed.
pub async fn run_beside<R, F>(
    storage: Option<Storage>,
    config: WorkerConfig,
    db: Db,
    queue: Queue,
    run_stage: R,
    soft: CancellationToken,
    hard: CancellationToken,
) where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    let needs = Needs { storage, scratch: None };
    run_needing(needs, config, db, queue, run_stage, soft, hard).await;
}

/// What must be there before a job is taken.
struct Needs {
    storage: Option<Storage>,
    scratch: Option<Scratch>,
}

async fn run_needing<R, F>(
    needs: Needs,
    config: WorkerConfig,
    db: Db,
    queue: Queue,
    run_stage: R,
    soft: CancellationToken,
    hard: CancellationToken,
) where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    let worker = Arc::new(Worker {
        id: WorkerId::new(),
        held: Arc::new(Held::new(config.lease)),
        config,
        db,
        queue,
        storage: needs.storage,
        scratch: needs.scratch,
        breaker: Mutex::new(Breaker::new(STORAGE_PING)),
        run_stage,
        jobs: TaskTracker::new(),
        no_more: soft.child_token(),
        stop_now: hard.child_token(),
    });
    // Should this future be dropped, everything that it started ends as by a hard stop.
    let ended = CancellationToken::new();
    let _guards =
        [&worker.no_more, &worker.stop_now, &ended].map(|token| token.clone().drop_guard());

    let mut keepers = JoinSet::new();
    keepers.spawn(heartbeat::renew(Arc::clone(&worker), ended.clone()));
    keepers.spawn(heartbeat::look(Arc::clone(&worker), ended.clone()));
    keepers.spawn(heartbeat::fence(Arc::clone(&worker.held), ended.clone()));
    keepers.spawn(heartbeat::sign(Arc::clone(&worker), ended.clone()));
    let mut pullers = JoinSet::new();
    for &(stage, slots) in &worker.config.slots {
        pullers.spawn(puller::serve(Arc::clone(&worker), stage, slots));
    }
    tracing::info!(worker.id = %worker.id, slots = ?worker.config.slots, "worker started");

    let broken = tokio::select! {
        () = soft.cancelled() => None,
        () = hard.cancelled() => None,
        broken = first_panic(&mut keepers) => Some(broken),
        broken = first_panic(&mut pullers) => Some(broken),
    };
    worker.no_more.cancel();
    if broken.is_some() {
        // Nobody can say what still works: running jobs are better off with another worker.
        worker.stop_now.cancel();
    }
    worker.jobs.close();
    let all_ended = async {
        // Pullers first: one that was in the middle of a claim still starts a job.
        let broken = last_panic(&mut pullers).await;
        worker.jobs.wait().await;
        broken
    };
    tokio::pin!(all_ended);
    let broken_puller = tokio::select! {
        broken = &mut all_ended => broken,
        () = drained_for_too_long(&worker.stop_now, worker.config.drain_timeout) => {
            worker.stop_now.cancel();
            all_ended.await
        }
    };
    ended.cancel();
    let broken_keeper = last_panic(&mut keepers).await;
    // Without this the reapers find out by themselves, 15 s later.
    if let Err(error) = worker.queue.leave(worker.id, &worker.stages()).await {
        tracing::debug!(%error, "left without telling Redis");
    }
    tracing::info!(worker.id = %worker.id, "worker stopped");
    // A worker without one of its tasks must not look alive: whoever started it hears of the panic.
    let broken = broken.or(broken_puller).or(broken_keeper);
    if let Some(panic) = broken.and_then(|error| error.try_into_panic().ok()) {
        std::panic::resume_unwind(panic);
    }
}

/// Waits for a panic, for ever if there is none.
async fn first_panic(tasks: &mut JoinSet<()>) -> JoinError {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return error;
        }
    }
    std::future::pending().await
}

/// Waits for the end of all.
async fn last_panic(tasks: &mut JoinSet<()>) -> Option<JoinError> {
    let mut panic = None;
    while let Some(ended) = tasks.join_next().await {
        panic = ended.err().or(panic);
    }
    panic
}

async fn drained_for_too_long(stop_now: &CancellationToken, timeout: Duration) {
    tokio::select! {
        () = stop_now.cancelled() => {}
        () = tokio::time::sleep(timeout) => {
            tracing::warn!(?timeout, "running jobs did not end in time, releasing them");
        }
    }
}

/// One start of a worker, shared by its tasks.
struct Worker<R> {
    id: WorkerId,
    config: WorkerConfig,
    db: Db,
    queue: Queue,
    storage: Option<Storage>,
    scratch: Option<Scratch>,
    breaker: Mutex<Breaker>,
    run_stage: R,
    held: Arc<Held>,
    jobs: TaskTracker,
    /// No new jobs.
    no_more: CancellationToken,
    /// Running jobs end now.
    stop_now: CancellationToken,
}

impl<R> Worker<R> {
    fn stages(&self) -> Vec<Stage> {
        self.config.slots.iter().map(|&(stage, _)| stage).collect()
    }
}
