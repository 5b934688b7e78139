//! The pulling end of a stage's queue: one connection of its own, blocked in BLMOVE for two seconds at a time.
//!
//! A pull is never cancelled. Dropped in flight, it may already have moved an id on the server, and nobody would know
//! until the list is looked through. So it is awaited to its end, which comes within the block, or at worst its timeout.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Script};

use super::registry::ALIVE;
use super::{Queue, QueueError};
use crate::job::{JobId, WorkerId};
use crate::stage::Stage;

/// How long the server holds a pull open when nothing waits. Also how long a soft stop takes at most.
const BLOCK: Duration = Duration::from_secs(2);
/// redis lifts no timeout for blocking commands: this one must lie above the block, or pulls fail with an id on the way.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a worker looks through its own list for ids whose delivery it never heard of.
const LOOK_PERIOD: Duration = Duration::from_secs(3);
/// How long a pull waits, here, on a full server where nothing waits: it cannot wait there.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// Pulls ids of one stage for one worker.
pub struct Consumer {
    queue: Queue,
    stage: Stage,
    worker: WorkerId,
    connection: Option<MultiplexedConnection>,
    looked_at: Option<Instant>,
    /// Ids found on our own list.
    found: VecDeque<JobId>,
}

impl Queue {
    /// Does not connect yet.
    #[must_use]
    pub fn consumer(&self, stage: Stage, worker: WorkerId) -> Consumer {
        Consumer {
            queue: self.clone(),
            stage,
            worker,
            connection: None,
            looked_at: None,
            found: VecDeque::new(),
        }
    }
}

impl Consumer {
    /// The next id, now on this worker's list; `None` when none came within two seconds. `in_hand` says which ids the
    /// worker knows of: others on its list were delivered and never heard of, and come first.
    ///
    /// After an error the connection is gone, and the next call opens another one; the caller waits between.
    pub async fn pull(
        &mut self,
        in_hand: impl Fn(JobId) -> bool,
    ) -> Result<Option<JobId>, QueueError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let pulled = self.pull_on(&mut connection, in_hand).await;
        // Only a connection that answered is used again: after a timeout the next answer on it would be this one's.
        if pulled.is_ok() {
            self.connection = Some(connection);
        }
        pulled
    }

    /// Up to `most` further ids, of those that wait at this moment. An error leaves what it may have moved to the next
    /// `pull`, which looks through this worker's list.
    pub async fn more(&mut self, most: usize) -> Result<Vec<JobId>, QueueError> {
        let Some(mut connection) = self.connection.take() else { return Ok(Vec::new()) };
        let mut ids = Vec::new();
        for element in self.take(&mut connection, most).await? {
            ids.extend(self.read(&mut connection, &element).await?);
        }
        self.connection = Some(connection);
        Ok(ids)
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, QueueError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection = self.queue.client.get_multiplexed_async_connection_with_config(&config);
        let connection = connection.await?;
        // Before the first pull: a list without a registered owner would never be reaped.
        self.queue.sign(self.worker, &[self.stage], ALIVE).await?;
        self.looked_at = None;
        Ok(connection)
    }

    async fn pull_on(
        &mut self,
        connection: &mut MultiplexedConnection,
        in_hand: impl Fn(JobId) -> bool,
    ) -> Result<Option<JobId>, QueueError> {
        // Not only after a connect: the server may carry out a pull of the last connection after it is gone.
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_PERIOD) {
            self.look(connection).await?;
        }
        while let Some(id) = self.found.pop_front() {
            if !in_hand(id) {
                return Ok(Some(id));
            }
        }
        let id = match self.wait_for_one(connection).await {
            Err(error) if error.code() == Some("OOM") => self.take_one(connection).await?,
            answer => answer?,
        };
        match id {
            Some(id) => self.read(connection, &id).await,
            None => Ok(None),
        }
    }

    async fn wait_for_one(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, RedisError> {
        redis::cmd("BLMOVE")
            .arg(self.queue.keys.waiting(self.stage))
            .arg(self.queue.keys.taken(self.stage, self.worker))
            .arg("LEFT")
            .arg("RIGHT")
            .arg(BLOCK.as_secs())
            .query_async(connection)
            .await
    }

    /// At `maxmemory` the server refuses BLMOVE, outside a script and in it; without this a full Redis could not drain.
    async fn take_one(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, RedisError> {
        let id = self.take(connection, 1).await?.pop();
        if id.is_none() {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        Ok(id)
    }

    async fn take(
        &self,
        connection: &mut MultiplexedConnection,
        most: usize,
    ) -> Result<Vec<String>, RedisError> {
        Script::new(include_str!("take.lua"))
            .key(self.queue.keys.waiting(self.stage))
            .key(self.queue.keys.taken(self.stage, self.worker))
            .arg(most)
            .invoke_async(connection)
            .await
    }

    async fn look(&mut self, connection: &mut MultiplexedConnection) -> Result<(), QueueError> {
        let ids: Vec<String> = redis::cmd("LRANGE")
            .arg(self.queue.keys.taken(self.stage, self.worker))
            .arg(0)
            .arg(-1)
            .query_async(connection)
            .await?;
        self.found.clear();
        for id in &ids {
            self.found.extend(self.read(connection, id).await?);
        }
        self.looked_at = Some(Instant::now());
        Ok(())
    }

    /// Somebody else's element names no job; it is taken off the list, or it would be met for ever.
    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        element: &str,
    ) -> Result<Option<JobId>, QueueError> {
        if let Ok(id) = element.parse() {
            return Ok(Some(id));
        }
        tracing::warn!(stage = %self.stage, element, "removed what is no job id from the queue");
        let (): () = redis::cmd("LREM")
            .arg(self.queue.keys.taken(self.stage, self.worker))
            .arg(1)
            .arg(element)
            .query_async(connection)
            .await?;
        Ok(None)
    }
}
