//! Who is alive: the workers that may own a list of taken ids, and the way back for the ids of dead ones.
//! Only hints hang on it. Which worker may run a job is decided by its lease in Postgres.

use std::time::Duration;

use redis::Script;

use super::{Queue, QueueError};
use crate::job::WorkerId;
use crate::stage::Stage;

/// How long a worker counts as alive after its last sign.
pub const ALIVE: Duration = Duration::from_secs(15);
/// How often a worker gives a sign.
pub const SIGN_PERIOD: Duration = Duration::from_secs(3);

/// A list whose owner is in no registry (Redis was emptied, then the worker died) goes by itself.
const FORGOTTEN: Duration = Duration::from_hours(24);

impl Queue {
    /// Says that a worker is alive for `alive`, and that it may own lists. Repeated, since Redis may be emptied.
    pub async fn sign(
        &self,
        worker: WorkerId,
        stages: &[Stage],
        alive: Duration,
    ) -> Result<(), QueueError> {
        let script = Script::new(include_str!("sign.lua"));
        let mut connection = self.connection().await?;
        for &stage in stages {
            let (): () = script
                .key(self.keys.workers(stage))
                .key(self.keys.heartbeat(stage, worker))
                .key(self.keys.taken(stage, worker))
                .arg(worker.to_string())
                .arg(milliseconds(alive))
                .arg(milliseconds(FORGOTTEN))
                .invoke_async(&mut connection)
                .await?;
        }
        Ok(())
    }

    /// Ends a worker's life in order: what it took and did not claim goes back, and it leaves the registry.
    pub async fn leave(&self, worker: WorkerId, stages: &[Stage]) -> Result<(), QueueError> {
        for &stage in stages {
            let (): () = redis::cmd("DEL")
                .arg(self.keys.heartbeat(stage, worker))
                .query_async(&mut self.connection().await?)
                .await?;
            self.reap_worker(stage, worker).await?;
        }
        Ok(())
    }

    /// Moves the ids of all workers without a sign of life back to the queue. Returns how many.
    pub async fn reap(&self, stage: Stage) -> Result<usize, QueueError> {
        let workers: Vec<String> = redis::cmd("SMEMBERS")
            .arg(self.keys.workers(stage))
            .query_async(&mut self.connection().await?)
            .await?;
        let mut moved = 0;
        for worker in workers.iter().filter_map(|id| id.parse().ok()) {
            moved += self.reap_worker(stage, worker).await?;
        }
        Ok(moved)
    }

    async fn reap_worker(&self, stage: Stage, worker: WorkerId) -> Result<usize, QueueError> {
        let moved: i64 = Script::new(include_str!("reap.lua"))
            .key(self.keys.taken(stage, worker))
            .key(self.keys.waiting(stage))
            .key(self.keys.heartbeat(stage, worker))
            .key(self.keys.workers(stage))
            .arg(worker.to_string())
            .invoke_async(&mut self.connection().await?)
            .await?;
        // -1: alive.
        Ok(usize::try_from(moved).unwrap_or(0))
    }

    /// Whether Redis holds nothing of ours since the last call of anybody: it was emptied, or is used for the first time.
    pub async fn was_emptied(&self) -> Result<bool, QueueError> {
        let made: bool = Script::new(include_str!("mark.lua"))
            .key(self.keys.marker())
            .invoke_async(&mut self.connection().await?)
            .await?;
        Ok(made)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
