//! How the commands that need nothing but Postgres open it. They never wait for it, and never touch a foreign schema.

use pipeline::db::Db;
use pipeline::db::schema::SchemaMismatch;

use crate::config::DatabaseSettings;

/// One statement at a time, and one connection to spare.
const CONNECTIONS: u32 = 2;

pub(super) async fn open(settings: &DatabaseSettings) -> anyhow::Result<Db> {
    let db = Db::connect(settings.url()?, CONNECTIONS)?;
    match db.check_schema().await {
        Ok(()) => Ok(db),
        // As itself, so that `main` sees the outage and its exit code.
        Err(SchemaMismatch::Db(error)) => Err(error.into()),
        Err(mismatch) => Err(mismatch.into()),
    }
}
