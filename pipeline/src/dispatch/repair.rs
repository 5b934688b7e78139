//! The repairs: ids that Redis lost (diff), leases that ran out (sweep), lists of dead workers (reap).

use std::time::Duration;

use super::{Dispatcher, Held};
use crate::db::TakenBack;
use crate::job::JobId;
use crate::metrics::{self, AttemptEnd};
use crate::retry::MAX_LOST_WORKERS;
use crate::stage::Stage;

/// A worker claims what it took at once, or gives it back. What is on its list and still pending after so long was
/// delivered and never heard of, and a worker whose slots are all busy does not look through its list for hours.
const STUCK: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Marks for dispatch again what was dispatched longer than `older_than` ago, waits still, and is in no list; or is
    /// stuck on that of a worker. An id that is doubled by that costs its second finder one claim that matches no row.
    pub(super) async fn diff(&self, older_than: Duration) -> Result<(), Held> {
        for stage in Stage::ALL {
            // Rows first, lists second. An id that is claimed in between is in no list and no longer pending either:
            // the mark is only taken off pending rows.
            let dispatched = self.db.dispatched(stage, older_than).await?;
            if dispatched.is_empty() {
                continue;
            }
            let there = self.queue.contents(stage).await?;
            let (taken, mut lost): (Vec<JobId>, Vec<JobId>) =
                dispatched.into_iter().partition(|id| there.contains(id));
            if !taken.is_empty() {
                let old = self.db.dispatched(stage, older_than.max(STUCK)).await?;
                let mut stuck: Vec<JobId> =
                    taken.into_iter().filter(|id| old.contains(id)).collect();
                if !stuck.is_empty() {
                    let waiting = self.queue.waiting(stage).await?;
                    stuck.retain(|id| !waiting.contains(id));
                }
                lost.append(&mut stuck);
            }
            if !lost.is_empty() {
                self.db.undispatch(&lost).await?;
                metrics::REDISPATCHED[stage].add(lost.len());
                tracing::warn!(%stage, jobs = lost.len(), "ids were missing in Redis, pushing again");
            }
        }
        Ok(())
    }

    /// Takes back jobs whose worker is gone, by the database's clock.
    pub(super) async fn sweep(&self) -> Result<(), Held> {
        let swept = self.db.sweep(MAX_LOST_WORKERS).await?;
        for TakenBack { job, stage, dead } in swept.taken_back {
            metrics::EXPIRED_LEASES.add(1);
            if dead {
                // Its worker is in no position to count it.
                metrics::ATTEMPTS[stage][AttemptEnd::Dead].add(1);
                tracing::warn!(job.id = %job, %stage, "lease ran out once too often: job is dead");
            } else {
                tracing::warn!(job.id = %job, %stage, "lease ran out: its worker is gone or stuck");
            }
        }
        swept.held_up.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Returns to the queues what dead workers had taken.
    pub(super) async fn reap(&self) -> Result<(), Held> {
        for stage in Stage::ALL {
            let moved = self.queue.reap(stage).await?;
            if moved > 0 {
                metrics::REAPED[stage].add(moved);
                tracing::warn!(%stage, jobs = moved, "returned the ids of a dead worker to the queue");
            }
        }
        Ok(())
    }
}
