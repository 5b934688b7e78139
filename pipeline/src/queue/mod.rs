//! The door to Redis: per stage a bounded list of job ids, and a list per worker of what it has taken.
//! A lost or doubled id is harmless by design; Postgres decides. `redis` and `deadpool_redis` are seen nowhere else.

mod consumer;
mod keys;
mod lent;
mod lists;
mod registry;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};

pub use consumer::Consumer;
pub use registry::{ALIVE, SIGN_PERIOD};

use keys::Keys;
use lent::Lent;

/// The pool is for short commands of a few loops; consumers have connections of their own.
const POOL_SIZE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(2);

/// How to reach Redis, and the prefix of every key of ours.
#[derive(Clone)]
pub struct QueueConfig {
    pub url: String,
    /// `clipstream:` by default.
    pub prefix: String,
}

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Unreachable, timed out, MISCONF, OOM, READONLY: the outcome is unknown, and every write of ours may be repeated.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    #[error("the settings for Redis are not usable: {0}")]
    Config(String),
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                Self::Config(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// The queues of all stages, for everything that does not block. Cheap to clone; never prints its URL.
#[derive(Clone)]
pub struct Queue {
    pool: Pool,
    client: Client,
    keys: Arc<Keys>,
}

impl Queue {
    /// Does not connect: the daemon starts while Redis is down.
    pub fn new(config: &QueueConfig) -> Result<Self, QueueError> {
        let unusable = |error: RedisError| QueueError::Config(error.to_string());
        let client = Client::open(config.url.as_str()).map_err(unusable)?;
        let connections = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let manager =
            Manager::new_with_config(config.url.as_str(), connections).map_err(unusable)?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .wait_timeout(Some(TIMEOUT))
            .create_timeout(Some(TIMEOUT))
            .recycle_timeout(Some(TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| QueueError::Config(error.to_string()))?;
        Ok(Self { pool, client, keys: Arc::new(Keys::new(&config.prefix)) })
    }

    /// Writes and reads a probe key, so that MISCONF, OOM and READONLY show.
    pub async fn check(&self) -> Result<(), QueueError> {
        let mut connection = self.connection().await?;
        let (): () = redis::pipe()
            .cmd("SET")
            .arg(self.keys.probe())
            .arg("1")
            .arg("EX")
            .arg(60)
            .ignore()
            .cmd("GET")
            .arg(self.keys.probe())
            .ignore()
            .query_async(&mut connection)
            .await?;
        Ok(())
    }

    async fn connection(&self) -> Result<Lent, QueueError> {
        self.pool.get().await.map(Lent::new).map_err(|error| match error {
            deadpool_redis::PoolError::Backend(error) => error.into(),
            other => QueueError::Unavailable(other.to_string()),
        })
    }
}
