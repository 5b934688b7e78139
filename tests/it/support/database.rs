//! A migrated database for one test: a copy of a template, made in tens of milliseconds, dropped when the test ends.

use std::sync::{OnceLock, mpsc};
use std::thread;

use pipeline::db::Db;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::world;

const TEMPLATE: &str = "clipstream_template";

/// A database of one test.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) db: Db,
    name: String,
    pool: PgPool,
}

impl TestDatabase {
    /// For assertions and set-up in plain SQL.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        janitor().send(std::mem::take(&mut self.name)).expect("the janitor lives as long as we do");
    }
}

/// A fresh, migrated database.
pub(crate) async fn database() -> TestDatabase {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    MIGRATED.get_or_init(make_template).await;
    let name = format!("test_{}", Uuid::now_v7().simple());
    execute(&format!("create database {name} template {TEMPLATE}")).await;
    let url = world::postgres().await.url_of(&name);
    let db = Db::connect(&url, 20).expect("a URL of our own");
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&url).expect("the same URL");
    TestDatabase { url, db, name, pool }
}

/// A database without any schema; the URL. It lasts as long as the run.
pub(crate) async fn empty_database() -> String {
    let name = format!("empty_{}", Uuid::now_v7().simple());
    execute(&format!("create database {name}")).await;
    world::postgres().await.url_of(&name)
}

/// By sqlx itself and not by ours: its connection must be closed before the template can be copied.
async fn make_template() {
    execute(&format!("create database {TEMPLATE}")).await;
    let url = world::postgres().await.url_of(TEMPLATE);
    let mut connection = PgConnection::connect(&url).await.expect("the template");
    sqlx::migrate!("./migrations").run(&mut connection).await.expect("migrations");
    connection.close().await.expect("closed");
}

async fn execute(statement: &str) {
    let mut connection = PgConnection::connect(&world::postgres().await.url()).await.expect("up");
    let statement = AssertSqlSafe(statement.to_owned());
    connection.execute(statement).await.expect("the statement works");
}

/// Drops databases behind the tests' back. `Drop` cannot wait, and a test's runtime ends with it.
fn janitor() -> &'static mpsc::Sender<String> {
    static JANITOR: OnceLock<mpsc::Sender<String>> = OnceLock::new();
    JANITOR.get_or_init(|| {
        let (names, inbox) = mpsc::channel::<String>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            for name in inbox {
                runtime.block_on(execute(&format!("drop database {name} with (force)")));
            }
        });
        names
    })
}
