//! The schema: bringing it up to date, and refusing to run on one that does not serve this version.
//! Migrations only go forward; nothing here ever drops or rewrites what another version made. A newer schema is fine as
//! long as its `schema_floor` says so: an upgrade rolls while the older binaries work on.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};

use super::{Db, DbError, answered};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Longest wait for a connection to migrate with, and for the look at the schema.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why this version does not run on the database as it is.
#[derive(Debug, thiserror::Error)]
pub enum SchemaMismatch {
    #[error(
        "the database lacks {} migration(s) of this version, the first is {}; run `clipstream migrate`",
        missing.len(), first(missing)
    )]
    Behind { missing: Vec<i64> },
    #[error(
        "the database has migration {version}, which this version of clipstream does not know: it was migrated by a \
         newer one that no longer serves this one; run that version, or restore the backup from before the upgrade"
    )]
    Unknown { version: i64 },
    #[error(
        "migration {version} was applied with another text than this version has; a released migration never changes, \
         so this is a build from between releases: use a fresh database or the build that migrated it"
    )]
    Changed { version: i64 },
    #[error(transparent)]
    Db(#[from] DbError),
}

fn first(missing: &[i64]) -> String {
    missing.first().map_or_else(String::new, ToString::to_string)
}

impl Db {
    /// Applies what is missing and returns how many that were. Two processes at once do not collide: sqlx holds an
    /// advisory lock meanwhile, and each migration is a transaction of its own.
    #[tracing::instrument(name = "db.schema.migrate", skip_all)]
    pub async fn migrate(&self) -> Result<usize, DbError> {
        // A connection of its own: a migration, and the wait for another process's, may take longer than a statement of
        // the pipeline ever should, and a cut one must not go back to the pool.
        let options = (*self.connections.pool().connect_options())
            .clone()
            .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect());
        let mut connection = connecting
            .await
            .map_err(|_| DbError::Unavailable("no connection within 10 s".to_owned()))??;
        let found = Found::read(&mut connection).await?;
        if found.is_ahead() && found.check().is_ok() {
            // A newer version has migrated it, and we may work with that: nothing is missing.
            return Ok(0);
        }
        MIGRATOR.run(&mut connection).await.map_err(migration_error)?;
        let after = applied(&mut connection).await?.len();
        connection.close().await?;
        Ok(after - found.applied.len())
    }

    /// Whether this version can work on the database's schema: its own, or a newer one that still serves it.
    #[tracing::instrument(name = "db.schema.check", skip_all)]
    pub async fn check_schema(&self) -> Result<(), SchemaMismatch> {
        // Boxed: it would be the largest part of the daemon's future.
        let look = Box::pin(async { Found::read(self.connections.take().await?.get()).await });
        answered(CONNECT_TIMEOUT, look).await?.check()
    }
}

/// What a database says of its schema.
struct Found {
    /// Version and checksum of each applied migration; none on a database that was never migrated.
    applied: BTreeMap<i64, Vec<u8>>,
    /// `schema_floor`; none before the migration that made it.
    floor: Option<i64>,
}

impl Found {
    async fn read(connection: &mut PgConnection) -> Result<Self, DbError> {
        let applied = applied(connection).await?;
        let has_floor: bool = sqlx::query_scalar("select to_regclass('schema_floor') is not null")
            .fetch_one(&mut *connection)
            .await?;
        let floor = if has_floor {
            sqlx::query_scalar("select migration from schema_floor")
                .fetch_optional(connection)
                .await?
        } else {
            None
        };
        Ok(Self { applied, floor })
    }

    fn is_ahead(&self) -> bool {
        self.applied.last_key_value().is_some_and(|(version, _)| *version > newest())
    }

    fn check(&self) -> Result<(), SchemaMismatch> {
        let serves_us = self.floor.is_some_and(|floor| floor <= newest());
        for (&version, checksum) in &self.applied {
            match MIGRATOR.iter().find(|ours| ours.version == version) {
                None if version > newest() && serves_us => {}
                None => return Err(SchemaMismatch::Unknown { version }),
                Some(ours) if *ours.checksum != **checksum => {
                    return Err(SchemaMismatch::Changed { version });
                }
                Some(_) => {}
            }
        }
        let versions = MIGRATOR.iter().map(|migration| migration.version);
        let missing: Vec<i64> =
            versions.filter(|version| !self.applied.contains_key(version)).collect();
        if missing.is_empty() { Ok(()) } else { Err(SchemaMismatch::Behind { missing }) }
    }
}

/// The newest migration that this version knows.
fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn applied(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>, DbError> {
    let migrated: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !migrated {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

fn migration_error(error: MigrateError) -> DbError {
    match error {
        MigrateError::VersionMissing(version) => {
            DbError::Unusable(SchemaMismatch::Unknown { version }.to_string())
        }
        MigrateError::VersionMismatch(version) => {
            DbError::Unusable(SchemaMismatch::Changed { version }.to_string())
        }
        MigrateError::Execute(error) => error.into(),
        MigrateError::ExecuteMigration(error, version) => match DbError::from(error) {
            DbError::Statement(text) => DbError::Statement(format!("migration {version}: {text}")),
            other => other,
        },
        other => DbError::Statement(other.to_string()),
    }
}
