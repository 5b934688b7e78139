//! Connections on their way from one statement to the next. The pool asks a connection whether it is alive before it gives
//! it away and twice when it comes back: beside a short statement these are most of the round trips. One that answered a
//! moment ago needs no question, so it stays out here, warm, for the next statement.
//!
//! Only a connection whose statement was answered gets warm. One whose statement was dropped, cut or late goes back to the
//! pool, whose questions decide what becomes of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgDatabaseError, PgPool, PgSeverity, Postgres};
use sqlx::{Connection, Error};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ACQUIRE_TIMEOUT;
use super::bounded::answered;

/// For how long an answer is good. Shorter than any peer or network takes to forget an idle connection.
const WARM: Duration = Duration::from_secs(1);
/// How long a connection may be kept from the pool, which knows its age and replaces it.
const AWAY: Duration = Duration::from_mins(1);

/// A pool, and in front of it those of its connections that are warm.
pub(super) struct Connections {
    pool: PgPool,
    /// As many as the pool has places, so whoever has one finds a warm connection or a place in the pool.
    permits: Semaphore,
    /// The one that answered last is the last.
    warm: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PoolConnection<Postgres>,
    /// When it came from the pool.
    left_at: Instant,
    answered_at: Instant,
}

/// A connection for one statement. Dropped, it goes back to the pool.
pub(super) struct Taken<'c> {
    connections: &'c Connections,
    connection: PoolConnection<Postgres>,
    left_at: Instant,
    _permit: SemaphorePermit<'c>,
}

impl Connections {
    pub(super) fn new(pool: PgPool, max_connections: u32) -> Self {
        let permits = Semaphore::new(usize::try_from(max_connections).unwrap_or(usize::MAX));
        Self { pool, permits, warm: Mutex::default() }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A warm connection, or one of the pool's.
    pub(super) async fn take(&self) -> Result<Taken<'_>, Error> {
        let permit = async { self.permits.acquire().await.map_err(|_| Error::PoolClosed) };
        let permit = answered(ACQUIRE_TIMEOUT, permit).await?;
        let (connection, left_at) = match self.pop() {
            Some(idle) => (idle.connection, idle.left_at),
            None => (self.pool.acquire().await?, Instant::now()),
        };
        Ok(Taken { connections: self, connection, left_at, _permit: permit })
    }

    /// The one that answered last; if that is too long ago, the others are older still and all go back.
    fn pop(&self) -> Option<Idle> {
        let mut warm = self.warm();
        let idle = warm.pop()?;
        if idle.answered_at.elapsed() < WARM {
            return Some(idle);
        }
        let cold = std::mem::take(&mut *warm);
        drop(warm);
        drop(cold);
        None
    }

    /// Keeps a connection for the next statement, and gives those back that got cold below it.
    fn push(&self, idle: Idle) {
        let mut warm = self.warm();
        let cold = warm.iter().take_while(|idle| idle.answered_at.elapsed() >= WARM).count();
        let cold: Vec<Idle> = warm.drain(..cold).collect();
        warm.push(idle);
        drop(warm);
        drop(cold);
    }

    /// After one has died, the server or the way to it may be gone: the others are not believed either.
    fn cool(&self) {
        let cold = std::mem::take(&mut *self.warm());
        drop(cold);
    }

    fn warm(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connections")
    }
}

impl Drop for Connections {
    /// The pool goes as well, and a connection can only go back to it inside a runtime.
    fn drop(&mut self) {
        for idle in std::mem::take(&mut *self.warm()) {
            drop(idle.connection.leak());
        }
    }
}

impl Taken<'_> {
    pub(super) fn get(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Says what its statement came to. Nothing here opens a transaction; a connection that is in one all the same, and
    /// one that has been away for long, go back to the pool.
    pub(super) fn answered<T>(self, outcome: &Result<T, Error>) {
        let alive = outcome.as_ref().err().is_none_or(refused);
        if !alive {
            self.connections.cool();
        }
        if alive && !self.connection.is_in_transaction() && self.left_at.elapsed() < AWAY {
            let Self { connections, connection, left_at, _permit } = self;
            connections.push(Idle { connection, left_at, answered_at: Instant::now() });
        }
    }
}

/// Whether the server answered and goes on with this connection: a fatal error is its last word.
fn refused(error: &Error) -> bool {
    let refusal = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    refusal.is_some_and(|refusal| refusal.severity() == PgSeverity::Error)
}
