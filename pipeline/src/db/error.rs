//! What can go wrong with Postgres, sorted by what a caller can do about it.

/// Why the database did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// Not reachable, out of connections, shutting down, timed out, a lock not got: worth another try. Whether the
    /// statement took effect is unknown.
    #[error("Postgres is not available: {0}")]
    Unavailable(String),
    /// It answers and will not do until an operator acts: URL, login, database, rights or schema.
    #[error("Postgres cannot be used: {0}")]
    Unusable(String),
    /// The row names another attempt or worker: stop, nothing of this attempt will be accepted.
    #[error("the lease is lost")]
    LeaseLost,
    /// A named constraint refused the row.
    #[error("constraint {0} refused the change")]
    Constraint(String),
    /// A row that no version of ours can have written.
    #[error("a row of {table} makes no sense: {detail}")]
    BadRow { table: &'static str, detail: String },
    /// A defect of ours.
    #[error("a statement failed: {0}")]
    Statement(String),
}

impl DbError {
    /// Whether it is Postgres that cannot be used at all, whatever it is asked; else it is about this one row, and the
    /// next row may go through.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            DbError::Unavailable(_) | DbError::Unusable(_) => true,
            DbError::LeaseLost
            | DbError::Constraint(_)
            | DbError::BadRow { .. }
            | DbError::Statement(_) => false,
        }
    }

    /// Whether this unique index or constraint refused the change.
    pub(in crate::db) fn is_refusal_by(&self, constraint: &str) -> bool {
        matches!(self, DbError::Constraint(name) if name == constraint)
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match &error {
            Error::Database(refusal) => refused(refusal.as_ref()),
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed => DbError::Unavailable(error.to_string()),
            Error::Configuration(_) => DbError::Unusable(error.to_string()),
            _ => DbError::Statement(error.to_string()),
        }
    }
}

/// By SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn refused(refusal: &dyn sqlx::error::DatabaseError) -> DbError {
    let code = refusal.code().unwrap_or_default();
    let text = format!("{} (SQLSTATE {code})", refusal.message());
    match code.as_ref() {
        // Cancelled by our statement_timeout; a lock not got in time; the loser of a deadlock or a serialisation
        // conflict; a server that has become a standby. Each leaves nothing behind and may be tried again.
        "57014" | "55P03" | "40P01" | "40001" | "25006" => DbError::Unavailable(text),
        // Wrong login, no such database, a right or a table that is missing.
        "3D000" | "42501" | "42P01" | "42703" => DbError::Unusable(text),
        code if code.starts_with("28") => DbError::Unusable(text),
        // Connection lost, shutting down or starting up, out of connections, memory or disk, a file that cannot be read.
        code if ["08", "57P", "53", "58"].iter().any(|class| code.starts_with(class)) => {
            DbError::Unavailable(text)
        }
        code if code.starts_with("23") => {
            DbError::Constraint(refusal.constraint().map_or(text, str::to_owned))
        }
        _ => DbError::Statement(text),
    }
}
