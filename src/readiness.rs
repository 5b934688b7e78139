//! Whether this process can do its work: asked by `/readyz`, by load balancers, by every scrape.
//! Only Postgres decides, and a stop that has begun; without Redis, MinIO or room on scratch it serves, degraded. An outage
//! of those must not take every process out of service at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::db::Db;
use pipeline::queue::Queue;
use pipeline::stages::Scratch;
use pipeline::stages::source::Space;
use pipeline::storage::{SetupState, Storage};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How long an answer is good for: probes come from everywhere, and each costs three round trips.
const LIFETIME: Duration = Duration::from_secs(2);
/// Below what a probe usually waits itself.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What a service said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub works: bool,
    pub took: Duration,
}

/// All of them, as they were a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub draining: bool,
    pub postgres: Check,
    pub redis: Check,
    pub minio: Check,
    /// Whether there is room to begin a job, where this process is a worker. Its puller looked a moment ago.
    pub scratch: Option<Check>,
    /// What there is on its file system, if that can be told.
    pub space: Option<Space>,
}

impl Report {
    /// Whether work should be sent here.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.postgres.works && !self.draining
    }

    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        [&self.postgres, &self.redis, &self.minio].into_iter().chain(&self.scratch)
    }
}

/// Asks the services, at most once in two seconds.
pub struct Readiness {
    db: Db,
    queue: Queue,
    storage: Storage,
    scratch: Option<Scratch>,
    draining: CancellationToken,
    last: Mutex<Option<(Instant, [Check; 3])>>,
}

impl Readiness {
    #[must_use]
    pub fn new(
        db: Db,
        queue: Queue,
        storage: Storage,
        scratch: Option<Scratch>,
        draining: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { db, queue, storage, scratch, draining, last: Mutex::new(None) })
    }

    /// Those who ask at once wait for one answer.
    pub async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        let checks = match *last {
            Some((at, checks)) if at.elapsed() < LIFETIME => checks,
            _ => {
                let before = last.map(|(_, checks)| checks);
                // Boxed: three clients in one future.
                let answers = Box::pin(self.ask()).await;
                for (place, (check, problem)) in answers.iter().enumerate() {
                    let worked = before.is_none_or(|before| before[place].works);
                    tell(check, worked, problem.as_deref());
                }
                let checks = answers.map(|(check, _)| check);
                *last = Some((Instant::now(), checks));
                checks
            }
        };
        let [postgres, redis, minio] = checks;
        let scratch = self.scratch.as_ref().map(|scratch| Check {
            name: "scratch",
            works: !scratch.is_full(),
            took: Duration::ZERO,
        });
        let space = self.scratch.as_ref().and_then(|scratch| scratch.space().ok());
        Report { draining: self.draining.is_cancelled(), postgres, redis, minio, scratch, space }
    }

    async fn ask(&self) -> [(Check, Option<String>); 3] {
        let bucket = async {
            match self.storage.inspect_bucket().await {
                Ok(SetupState::Right) => Ok(()),
                Ok(SetupState::Absent | SetupState::Different) => {
                    Err("the bucket is not there".to_owned())
                }
                Err(error) => Err(error.to_string()),
            }
        };
        let (postgres, redis, minio) = tokio::join!(
            check("postgres", async { self.db.ping().await.map_err(|e| e.to_string()) }),
            // By a write: a Redis that only answers may have a full disk or memory, or be a replica.
            check("redis", async { self.queue.check().await.map_err(|e| e.to_string()) }),
            check("minio", bucket),
        );
        [postgres, redis, minio]
    }
}

async fn check(
    name: &'static str,
    ask: impl Future<Output = Result<(), String>>,
) -> (Check, Option<String>) {
    let asked_at = Instant::now();
    let problem = match tokio::time::timeout(PATIENCE, ask).await {
        Ok(answer) => answer.err(),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    };
    (Check { name, works: problem.is_none(), took: asked_at.elapsed() }, problem)
}

/// On a change only. What a service said is for the log; the answer to a probe has but its name.
fn tell(check: &Check, worked: bool, problem: Option<&str>) {
    match problem {
        Some(problem) if worked => tracing::warn!(service = check.name, problem, "not usable"),
        None if !worked => tracing::info!(service = check.name, "usable again"),
        Some(_) | None => {}
    }
}
