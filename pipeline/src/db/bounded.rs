//! The pool with a deadline of our own for every statement. The server's `statement_timeout` is worth nothing when the
//! network swallows its answer: the kernel would wait for a quarter of an hour, and a lease lasts seconds.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Describe, Either, Error, Execute, Executor, SqlStr};

use super::connections::Connections;
use super::{ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT};

type Answer<'e, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'e>>;
type Answers<'e, T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send + 'e>>;

/// A wait for a connection, and the statement on it.
pub(in crate::db) const DEADLINE: Duration = ACQUIRE_TIMEOUT.saturating_add(STATEMENT_TIMEOUT);

/// One statement on a connection of its own, to its answer or the deadline.
macro_rules! on_one {
    ($connections:expr, $connection:ident => $statement:expr) => {
        answered(DEADLINE, async move {
            let mut taken = $connections.take().await?;
            let $connection = taken.get();
            let outcome = $statement.await;
            taken.answered(&outcome);
            outcome
        })
    };
}

/// Runs each statement to its answer or to the deadline. Whether a statement without an answer took effect is unknown,
/// as after any cut connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::db) struct Bounded<'p>(pub(super) &'p Connections);

/// Waits no longer than `limit`.
pub(in crate::db) async fn answered<T, E: From<Error>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        Err(Error::Io(late).into())
    })
}

impl<'p> Executor<'p> for Bounded<'p> {
    type Database = Postgres;

    /// All rows at once: the statements of this folder have few, and nothing may wait between two rows.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e, Either<PgQueryResult, PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let rows =
            on_one!(self.0, connection => connection.fetch_many(query).try_collect::<Vec<_>>());
        let rows = stream::once(rows);
        Box::pin(rows.map_ok(|rows| stream::iter(rows).map(Ok)).try_flatten())
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> Answer<'e, Option<PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(on_one!(self.0, connection => connection.fetch_optional(query)))
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> Answer<'e, PgStatement>
    where
        'p: 'e,
    {
        Box::pin(on_one!(self.0, connection => connection.prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> Answer<'e, Describe<Postgres>>
    where
        'p: 'e,
    {
        Box::pin(on_one!(self.0, connection => connection.describe(sql)))
    }
}
