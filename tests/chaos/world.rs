//! A run's world: the servers, our processes, the witness in the database, and the way around all proxies that only the
//! harness itself uses.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pipeline::db::Db;
use pipeline::storage::Storage;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::feeder::Feeder;
use crate::fleet::{Fleet, Member, Role, Settings};
use crate::media::Media;
use crate::plan::Phase;
use crate::s3_client::S3Client;
use crate::services::Services;
use crate::verdict::Verdict;

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) feeder: Feeder,
    pub(crate) fleet: Fleet,
    pub(crate) storage: Storage,
    /// Straight to Postgres, which may be away when the plan says so.
    pub(crate) pool: PgPool,
    pub(crate) services: Services,
    pub(crate) directory: PathBuf,
    /// Where stages are real.
    pub(crate) media: Option<Media>,
}

/// What a world leaves.
pub(crate) struct Findings {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) races: u64,
    pub(crate) unkept: u64,
    pub(crate) refused: usize,
    pub(crate) files: Files,
}

impl World {
    /// From its start to its verdicts.
    #[expect(clippy::print_stderr, reason = "this is what a run says")]
    pub(crate) async fn live(settings: Settings, phases: Vec<Phase>) -> Findings {
        let files = Files::new();
        let mut world = Self::new(settings, files.0.path()).await;
        let mut strikes = Vec::new();
        for phase in &phases {
            let begun = Instant::now();
            for injection in &phase.injections {
                strikes.extend(world.inject(phase.fault, *injection).await);
            }
            let (name, count) = (phase.fault.as_str(), phase.injections.len());
            eprintln!("chaos: {name}: {count} done in {} s", begun.elapsed().as_secs());
        }
        let begun = Instant::now();
        world.quiesce().await;
        let names: Vec<_> = phases.iter().map(|phase| phase.fault.as_str()).collect();
        eprintln!("chaos: {}: all ended {} s later", names.join(", "), begun.elapsed().as_secs());
        Findings {
            verdicts: world.verdict(&strikes).await,
            races: world.feeder.races(),
            unkept: world.feeder.unkept(),
            refused: world.fleet.members.iter().map(Member::refusals).sum(),
            files,
        }
    }

    async fn new(settings: Settings, directory: &Path) -> Self {
        let services = Services::start(directory).await;
        let url = services.postgres_url("clipstream", services.postgres.port);
        let real = settings.wholes > 0;
        set_up(&url, &services.postgres.password, &Fleet::names(&settings), real).await;
        let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(Duration::from_mins(1));
        let pool = pool.connect_lazy(&url).expect("the same URL");
        let db = Db::connect(&url, 10).expect("the same URL");
        let storage = Storage::new(&services.storage_config(services.minio_port()));
        let storage = storage.expect("usable settings");
        let fleet = Fleet::start(&services, &settings, directory).await;
        let listeners = fleet.members.iter().filter(|member| member.role != Role::Worker);
        let ports = listeners.map(|member| member.port).collect();
        let media = real.then(|| Media::new(services.secrets()));
        let stranger = S3Client::new(&services.storage_config(services.minio_port()));
        let feeder = Feeder::new(db, pool.clone(), storage.clone(), stranger, ports, settings.seed);
        let directory = directory.to_owned();
        let world = Self { settings, feeder, fleet, storage, pool, services, directory, media };
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

/// Logs and what the servers hold. They stay when somebody wants to read them.
pub(crate) struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("clipstream-chaos-").tempdir();
        Self(directory.expect("a directory"))
    }

    pub(crate) fn keep(mut self) -> PathBuf {
        self.0.disable_cleanup(true);
        self.0.path().to_owned()
    }
}

impl Drop for Files {
    #[expect(clippy::print_stderr, reason = "this is what a run says")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("chaos: the logs are in {}", self.0.path().display());
        }
    }
}

/// Not connecting yet, or being stopped.
fn is_outage(error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// The schema, the witness, and a role for each process, so that the witness knows who writes.
async fn set_up(url: &str, password: &str, names: &[String], real: bool) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres is up");
    sqlx::migrate!("./migrations").run(&mut connection).await.expect("migrations");
    connection.execute(include_str!("oracle.sql")).await.expect("the witness");
    if real {
        connection.execute(include_str!("media.sql")).await.expect("the witness of real stages");
    }
    for name in names {
        let role = format!("create role {name} login superuser password '{password}'");
        connection.execute(AssertSqlSafe(role)).await.expect("a role");
    }
}
