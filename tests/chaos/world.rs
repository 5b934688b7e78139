//! A run's world: the servers, our processes, the witness in the database, and the way around all proxies that only the
//! harness itself uses.

use std::time::Duration;

use pipeline::db::Db;
use pipeline::storage::Storage;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::feeder::Feeder;
use crate::fleet::{Fleet, Settings};
use crate::services::Services;

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) feeder: Feeder,
    pub(crate) fleet: Fleet,
    pub(crate) storage: Storage,
    /// Straight to Postgres, which may be away when the plan says so.
    pub(crate) pool: PgPool,
    pub(crate) services: Services,
    /// Last, so that nothing writes to it any more when it goes.
    pub(crate) directory: TempDir,
}

impl World {
    pub(crate) async fn new(settings: Settings) -> Self {
        let directory = tempfile::Builder::new().prefix("clipstream-chaos-").tempdir();
        let directory = directory.expect("a directory");
        let services = Services::start(directory.path()).await;
        let url = services.postgres_url("clipstream", services.postgres.port);
        set_up(&url, &services.postgres.password, &Fleet::names(&settings)).await;
        let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_mins(1));
        let pool = pool.connect_lazy(&url).expect("the same URL");
        let db = Db::connect(&url, 10).expect("the same URL");
        let storage = Storage::new(&services.storage_config(services.minio_port()));
        let storage = storage.expect("usable settings");
        let fleet = Fleet::start(&services, &settings, directory.path()).await;
        let ports = fleet.of(crate::fleet::Role::Daemon).iter().map(|member| member.port).collect();
        let feeder = Feeder::new(db, pool.clone(), storage.clone(), ports, settings.seed);
        let world = Self { settings, feeder, fleet, storage, pool, services, directory };
        world.feeder.until_they_listen().await;
        world
    }

    /// A number, asked for until Postgres answers.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        loop {
            match sqlx::query_scalar(query).fetch_one(&self.pool).await {
                Ok(count) => return count,
                Err(error) => {
                    assert!(error.as_database_error().is_none_or(is_outage), "{query}: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Not connecting yet, or being stopped.
fn is_outage(error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// The schema, the witness, and a role for each process, so that the witness knows who writes.
async fn set_up(url: &str, password: &str, names: &[String]) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres is up");
    sqlx::migrate!("./migrations").run(&mut connection).await.expect("migrations");
    connection.execute(include_str!("oracle.sql")).await.expect("the witness");
    for name in names {
        let role = format!("create role {name} login superuser password '{password}'");
        connection.execute(AssertSqlSafe(role)).await.expect("a role");
    }
}
