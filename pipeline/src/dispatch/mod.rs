//! Fills the bounded Redis windows from Postgres, and repairs them: dispatch, diff, sweep, reap.
//! Every loop is idempotent and every process may run them all; none of them decides about a job's end by itself.

mod repair;
mod window;

use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::db::{Db, DbError};
use crate::queue::{Queue, QueueError};
use crate::retry::Outage;

/// Rest after a round of dispatch, however often it is rung for: what becomes due meanwhile goes out together. An idle
/// queue does not notice, its last round was long ago.
const DISPATCH_REST: Duration = Duration::from_millis(10);
const DIFF_PERIOD: Duration = Duration::from_secs(5);
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
const REAP_PERIOD: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct DispatchConfig {
    /// Most ids that wait in Redis per stage.
    pub window: usize,
    /// How often due jobs are looked for that nobody told us of; those of this process ring.
    pub poll: Duration,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self { window: 64, poll: Duration::from_millis(200) }
    }
}

/// Runs all loops until `stop` fires; each ends its round first. A loop that panics takes the others with it: without
/// one of them jobs would be lost in silence.
pub async fn run(config: DispatchConfig, db: Db, queue: Queue, stop: CancellationToken) {
    let stop = stop.child_token();
    // Should this future be dropped, the loops end as well.
    let _ends_the_loops = stop.clone().drop_guard();
    let dispatcher = Dispatcher { config, db, queue };
    let mut loops = JoinSet::new();
    loops.spawn(dispatcher.clone().dispatch_loop(stop.clone()));
    loops.spawn(dispatcher.clone().diff_loop(stop.clone()));
    loops.spawn(dispatcher.clone().sweep_loop(stop.clone()));
    loops.spawn(dispatcher.reap_loop(stop.clone()));
    loops.join_all().await;
}

/// What the loops share.
#[derive(Clone)]
struct Dispatcher {
    config: DispatchConfig,
    db: Db,
    queue: Queue,
}

/// Why a round did not come to its end. The next one starts from what the services then say.
#[derive(Debug, thiserror::Error)]
enum Held {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Dispatcher {
    async fn dispatch_loop(self, stop: CancellationToken) {
        let bell = self.db.jobs_due();
        rounds("dispatch", self.config.poll, &bell, &stop, || self.fill_and_rest()).await;
    }

    async fn fill_and_rest(&self) -> Result<(), Held> {
        self.fill().await?;
        tokio::time::sleep(DISPATCH_REST).await;
        Ok(())
    }

    async fn diff_loop(self, stop: CancellationToken) {
        rounds("diff", DIFF_PERIOD, &Notify::new(), &stop, || self.diff(DIFF_PERIOD)).await;
    }

    async fn sweep_loop(self, stop: CancellationToken) {
        rounds("sweep", SWEEP_PERIOD, &Notify::new(), &stop, || self.sweep()).await;
    }

    async fn reap_loop(self, stop: CancellationToken) {
        rounds("reap", REAP_PERIOD, &Notify::new(), &stop, || self.reap()).await;
    }
}

/// Runs a round now, then after each period or ring of the bell. While rounds fail it backs off, and says so once.
async fn rounds<F>(
    name: &'static str,
    period: Duration,
    bell: &Notify,
    stop: &CancellationToken,
    mut round: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), Held>>,
{
    let mut outage = Outage::default();
    while !stop.is_cancelled() {
        // Interest is registered before the round looks: a ring in between is not missed.
        let mut rung = std::pin::pin!(bell.notified());
        rung.as_mut().enable();
        match round().await {
            Ok(()) => {
                if outage.worked() {
                    tracing::info!(task = name, "goes on");
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = rung => {}
                    () = tokio::time::sleep(period) => {}
                }
            }
            Err(error) => {
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(task = name, %error, "held up, tries again until it works");
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(setback.delay.max(period)) => {}
                }
            }
        }
    }
}
