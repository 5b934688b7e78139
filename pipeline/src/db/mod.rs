//! The door to Postgres, the truth. One function per statement, every state change guarded by the state it expects.
//! The crate `sqlx` is seen nowhere else; its errors become [`DbError`] here.
//!
//! How a transition stays right under READ COMMITTED, in every file of this folder:
//! - It is one statement and never a `BEGIN`: a dropped future or a cut connection leaves all of it or nothing.
//! - It names the job by `(id, attempt, worker)` and `running`. Whoever waited for the row's lock sees the newest
//!   version (Postgres checks the `where` again), so of two writers one matches and the other changes nothing.
//! - What depends on several stages is computed in `set` from the video's own row, never by a subquery on other rows:
//!   `set` is computed again after a wait for the lock, a subquery would go on reading the statement's old snapshot.
//! - Locks are taken job first, then video. Jobs of others are taken with `skip locked` only, and what was skipped is
//!   found by the next sweep or claim: nobody who holds a video waits for a job, so no cycle of waits is possible.

pub mod api_keys;
mod bounded;
mod connections;
pub mod dispatch;
pub mod duplicates;
pub mod embeddings;
mod error;
pub mod events;
pub mod finish;
pub mod intake;
pub mod jobs;
pub mod leftovers;
pub mod objects;
pub mod operators;
pub mod originals;
pub mod probes;
pub mod queues;
pub mod reconcile;
mod row;
pub mod schema;
pub mod setback;
pub mod settings;
pub mod shares;
mod sql;
pub mod sweep;
pub mod videos;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Notify;

use bounded::{Bounded, answered};
use connections::Connections;

pub use duplicates::DuplicateCommit;
pub use error::DbError;
pub use finish::Commit;
pub use intake::{Accepted, Announcer};
pub use jobs::{Claim, Kept};
pub use leftovers::{Announced, Uncollected};
pub use operators::Ordered;
pub use schema::SchemaMismatch;
pub use setback::{Retried, Strike};
pub use shares::{OwnerShare, Share};
pub use sweep::{Swept, TakenBack};

/// Longest wait for a free connection, well below what the sender of a webhook waits for its answer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest run of a statement, here and on the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a sign of life of a connection that comes back to the pool.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections for heartbeats alone, beside those that everything else may use up: a burst of webhooks must not cost a
/// lease. One renews, one is there for a second worker or while the first is replaced.
const HEARTBEAT_CONNECTIONS: u32 = 2;

/// A pool of connections. Cheap to clone; never prints the URL.
#[derive(Clone)]
pub struct Db {
    connections: Arc<Connections>,
    heartbeats: PgPool,
    jobs_due: Arc<Notify>,
}

impl Db {
    /// A pool that connects when it is first used: the daemon starts while Postgres is away. Fails on a bad URL only.
    pub fn connect(url: &str, max_connections: u32) -> Result<Self, DbError> {
        let options = connect_options(url)?;
        let options = options.application_name("clipstream").options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
        let pool_of = |connections| pool(connections, options.clone());
        Ok(Self {
            connections: Arc::new(Connections::new(pool_of(max_connections), max_connections)),
            heartbeats: pool_of(HEARTBEAT_CONNECTIONS),
            jobs_due: Arc::new(Notify::new()),
        })
    }

    /// One round trip.
    pub async fn ping(&self) -> Result<(), DbError> {
        sqlx::query("select 1").execute(self.pool()).await?;
        Ok(())
    }

    /// Rung after every commit of this process that made a job due, so that dispatch need not wait for its next poll.
    /// Jobs made due by other processes or by time are found by that poll.
    #[must_use]
    pub fn jobs_due(&self) -> Arc<Notify> {
        Arc::clone(&self.jobs_due)
    }

    /// A permit is kept when nobody waits, so a bell rung while dispatch is at work is heard afterwards.
    fn ring(&self, due: bool) {
        if due {
            self.jobs_due.notify_one();
        }
    }

    /// What every statement runs on, but for the heartbeat.
    pub(in crate::db) fn pool(&self) -> Bounded<'_> {
        Bounded(&self.connections)
    }
}

fn pool(max_connections: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(true)
        // Nothing here opens a transaction. A connection that is in one all the same is not given to anybody else.
        // One that no longer answers is thrown away here: the pool's own ping would keep its place without an end.
        .after_release(|connection, _| {
            Box::pin(async move {
                if connection.is_in_transaction() {
                    return Ok(false);
                }
                answered(PING_TIMEOUT, connection.ping()).await?;
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Neither our text nor the parser's quotes the URL, which holds a password.
fn connect_options(url: &str) -> Result<PgConnectOptions, DbError> {
    const FORM: &str = "it should look like postgres://user:password@host:5432/database";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DbError::Unusable(format!("its URL has another scheme; {FORM}")));
    }
    PgConnectOptions::from_str(url)
        .map_err(|error| DbError::Unusable(format!("its URL cannot be read ({error}); {FORM}")))
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}
