//! A durable Postgres and a Redis of this run, and a migrated database for each measurement.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

use clipstream::config::cache_dir;
use clipstream::supervisor::{
    Postgres, PostgresServer, Programs, Redis, RedisServer, free_port, random_hex,
};
use pipeline::db::Db;
use pipeline::queue::QueueConfig;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;

pub(crate) struct Services {
    postgres: PostgresServer,
    redis: RedisServer,
    directory: TempDir,
}

/// What one measurement works on; nothing of it is used again.
pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) database_url: String,
    /// For set-up and looks in plain SQL.
    pub(crate) pool: PgPool,
    pub(crate) queue: QueueConfig,
}

/// Connections of one process, as a daemon has by default. pgbench gets as many clients as can be at work with these.
pub(crate) const CONNECTIONS: u32 = 20;

impl Services {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::Builder::new().prefix("clipstream-bench-").tempdir()?;
        let at = directory.path();
        let programs = Programs::new(&at.join("bin"), cache_dir().as_deref());
        let postgres = Postgres {
            directory: at.join("postgres"),
            log: at.join("postgres.log"),
            port: free_port()?,
            password: random_hex()?,
            max_connections: 200,
            durable: true,
        };
        let redis = Redis {
            directory: at.join("redis"),
            log: at.join("redis.log"),
            port: free_port()?,
            password: random_hex()?,
        };
        let postgres = postgres.start(&programs).await?;
        let redis = redis.start(&programs).await?;
        Ok(Self { postgres, redis, directory })
    }

    pub(crate) async fn world(&self) -> Result<World, Box<dyn Error>> {
        let name = format!("bench_{}", random_hex()?);
        psql(&self.postgres.url(), &format!("create database {name}"))?;
        let database_url = self.postgres.url_of(&name);
        let db = Db::connect(&database_url, CONNECTIONS)?;
        db.migrate().await?;
        let queue = QueueConfig { url: self.redis.url(), prefix: format!("{name}:") };
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&database_url)?;
        Ok(World { db, database_url, pool, queue })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn stop(self) {
        self.redis.stop().await;
        self.postgres.stop().await;
    }
}

/// Runs one statement, and gives what it answers.
pub(crate) fn psql(url: &str, statement: &str) -> Result<String, Box<dyn Error>> {
    let output = Command::new("psql")
        .args([url, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "-Atc", statement])
        .stderr(Stdio::inherit())
        .output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    } else {
        Err(format!("psql: {}", output.status).into())
    }
}
