//! The schema: bringing it up to date, and refusing to run on one that this version does not know.
//! Migrations only go forward; nothing here ever drops or rewrites what another version made.

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
         newer one; run that version, or restore the backup from before the upgrade"
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
        let options = (*self.pool.connect_options())
            .clone()
            .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect());
        let mut connection = connecting
            .await
            .map_err(|_| DbError::Unavailable("no connection within 10 s".to_owned()))??;
        let before = applied(&mut connection).await?.len();
        MIGRATOR.run(&mut connection).await.map_err(migration_error)?;
        let after = applied(&mut connection).await?.len();
        connection.close().await?;
        Ok(after - before)
    }

    /// Whether the database's schema is exactly the one of this version.
    #[tracing::instrument(name = "db.schema.check", skip_all)]
    pub async fn check_schema(&self) -> Result<(), SchemaMismatch> {
        // Boxed: it would be the largest part of the daemon's future.
        let look = Box::pin(async { applied(&mut *self.pool.acquire().await?).await });
        let applied = answered(CONNECT_TIMEOUT, look).await?;
        for (version, checksum) in &applied {
            match MIGRATOR.iter().find(|ours| ours.version == *version) {
                None => return Err(SchemaMismatch::Unknown { version: *version }),
                Some(ours) if *ours.checksum != **checksum => {
                    return Err(SchemaMismatch::Changed { version: *version });
                }
                Some(_) => {}
            }
        }
        let versions = MIGRATOR.iter().map(|migration| migration.version);
        let missing: Vec<i64> = versions.filter(|version| !applied.contains_key(version)).collect();
        if missing.is_empty() { Ok(()) } else { Err(SchemaMismatch::Behind { missing }) }
    }
}

/// Version and checksum of each applied migration; none on a database that was never migrated.
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
