//! What an operator should know about the server: its version, and settings under which a commit is not a promise.

use super::{Db, DbError};

/// Setting, what it should not be, and what that costs.
const RISKS: [(&str, &str, &str); 4] = [
    ("fsync", "off", "a crash of the host can destroy the whole database"),
    ("full_page_writes", "off", "a crash of the host can tear pages"),
    (
        "synchronous_commit",
        "off",
        "an upload that MinIO was told is accepted can be forgotten by a crash; the reconciler finds it again",
    ),
    (
        "data_checksums",
        "off",
        "damage on the disk goes unnoticed; it can be turned on with pg_checksums while the server is stopped",
    ),
];

impl Db {
    /// One sentence for each setting under which what is committed can be lost. Empty when all is well.
    #[tracing::instrument(name = "db.settings.warnings", skip_all)]
    pub async fn settings_warnings(&self) -> Result<Vec<String>, DbError> {
        let names: Vec<&str> = RISKS.iter().map(|(name, ..)| *name).collect();
        let settings: Vec<(String, String)> =
            sqlx::query_as("select name, setting from pg_settings where name = any($1)")
                .bind(names)
                .fetch_all(self.pool())
                .await?;
        let warnings = RISKS.iter().filter_map(|(name, bad, cost)| {
            let set = settings.iter().any(|(n, value)| n == name && value == bad);
            set.then(|| format!("Postgres runs with {name} = {bad}: {cost}"))
        });
        Ok(warnings.collect())
    }

    /// The server's version, as it says it, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    #[tracing::instrument(name = "db.settings.version", skip_all)]
    pub async fn server_version(&self) -> Result<String, DbError> {
        Ok(sqlx::query_scalar("select current_setting('server_version')")
            .fetch_one(self.pool())
            .await?)
    }
}
