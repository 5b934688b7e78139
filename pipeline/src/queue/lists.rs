//! The lists of a stage: what waits, what workers have taken. Every write here may be repeated without harm.

use std::collections::HashSet;

use redis::Script;

use super::{Queue, QueueError};
use crate::job::{JobId, WorkerId};
use crate::stage::Stage;

impl Queue {
    /// How many ids wait, per stage in the order of [`Stage::ALL`].
    pub async fn lengths(&self) -> Result<[usize; Stage::ALL.len()], QueueError> {
        let mut lengths = redis::pipe();
        for stage in Stage::ALL {
            lengths.cmd("LLEN").arg(self.keys.waiting(stage));
        }
        Ok(lengths.query_async(&mut self.connection().await?).await?)
    }

    /// Appends ids while fewer than `window` wait; returns how many it took, counted from the front.
    /// After an error any number of them may be in.
    pub async fn push(
        &self,
        stage: Stage,
        window: usize,
        ids: &[JobId],
    ) -> Result<usize, QueueError> {
        let script = Script::new(include_str!("push.lua"));
        let mut call = script.prepare_invoke();
        call.key(self.keys.waiting(stage)).arg(window);
        for id in ids {
            call.arg(id.to_string());
        }
        Ok(call.invoke_async(&mut self.connection().await?).await?)
    }

    /// The ids of a stage that wait.
    pub async fn waiting(&self, stage: Stage) -> Result<HashSet<JobId>, QueueError> {
        let waiting: Vec<String> = redis::cmd("LRANGE")
            .arg(self.keys.waiting(stage))
            .arg(0)
            .arg(-1)
            .query_async(&mut self.connection().await?)
            .await?;
        Ok(waiting.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Every id of a stage that is in Redis at all: waiting, or taken by a registered worker.
    ///
    /// An id that moves from waiting to taken while this reads is seen, since waiting is read first. One that is reaped
    /// meanwhile may be missed; it is then pushed twice, and the second claim matches no row.
    pub async fn contents(&self, stage: Stage) -> Result<HashSet<JobId>, QueueError> {
        let mut connection = self.connection().await?;
        let (waiting, workers): (Vec<String>, Vec<String>) = redis::pipe()
            .cmd("LRANGE")
            .arg(self.keys.waiting(stage))
            .arg(0)
            .arg(-1)
            .cmd("SMEMBERS")
            .arg(self.keys.workers(stage))
            .query_async(&mut connection)
            .await?;
        let mut ids: HashSet<JobId> = waiting.iter().filter_map(|id| id.parse().ok()).collect();
        let workers: Vec<WorkerId> = workers.iter().filter_map(|id| id.parse().ok()).collect();
        if workers.is_empty() {
            return Ok(ids);
        }
        let mut lists = redis::pipe();
        for worker in workers {
            lists.cmd("LRANGE").arg(self.keys.taken(stage, worker)).arg(0).arg(-1);
        }
        let lists: Vec<Vec<String>> = lists.query_async(&mut connection).await?;
        ids.extend(lists.iter().flatten().filter_map(|id| id.parse::<JobId>().ok()));
        Ok(ids)
    }

    /// Takes an id off a worker's list: its row says all there is to say. A crash before this leaves a stale id, whose
    /// next claim matches no row.
    pub async fn remove(
        &self,
        stage: Stage,
        worker: WorkerId,
        id: JobId,
    ) -> Result<(), QueueError> {
        let (): () = redis::cmd("LREM")
            .arg(self.keys.taken(stage, worker))
            .arg(1)
            .arg(id.to_string())
            .query_async(&mut self.connection().await?)
            .await?;
        Ok(())
    }

    /// Returns an id that was taken and not claimed, so that another worker has it at once.
    pub async fn give_back(
        &self,
        stage: Stage,
        worker: WorkerId,
        id: JobId,
    ) -> Result<(), QueueError> {
        let (): () = Script::new(include_str!("give_back.lua"))
            .key(self.keys.taken(stage, worker))
            .key(self.keys.waiting(stage))
            .arg(id.to_string())
            .invoke_async(&mut self.connection().await?)
            .await?;
        Ok(())
    }
}
