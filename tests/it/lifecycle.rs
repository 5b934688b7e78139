//! How the daemon starts and ends, and what it does while something is away.

use std::fs;
use std::process::Command;

use clipstream::supervisor::free_port;
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use crate::support::{self, Daemon};

/// `serve` on a database; Redis and MinIO lead to ports that nothing listens on.
fn serve(database_url: &str, port: u16) -> Command {
    let nobody = free_port().expect("a port");
    let mut command = Daemon::command();
    command
        .arg("serve")
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", format!("redis://127.0.0.1:{nobody}/0"))
        .env("MINIO_ENDPOINT", format!("127.0.0.1:{nobody}"))
        .env("MINIO_ACCESS_KEY", "clipstream")
        .env("MINIO_SECRET_KEY", "clipstream-secret")
        .env("MINIO_WEBHOOK_TOKEN", "a-token-of-this-test")
        .env("API_HOST", "127.0.0.1")
        .env("API_PORT", port.to_string());
    command
}

fn answers(url: &str, key: Option<&str>) -> Option<u16> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", url]);
    if let Some(key) = key {
        curl.arg("-H").arg(format!("Authorization: Bearer {key}"));
    }
    let output = curl.output().expect("curl");
    String::from_utf8(output.stdout).ok()?.parse().ok().filter(|code| *code != 0)
}

#[tokio::test]
async fn it_serves_while_redis_and_minio_are_away_and_ends_in_order_on_sigterm() {
    let database = support::database().await;
    let key = database.db.create_api_key("default", "test").await.expect("a key").key;
    let port = free_port().expect("a port");
    let mut daemon = Daemon::start(serve(&database.url, port));
    let videos = format!("http://127.0.0.1:{port}/v1/videos");
    daemon.until("the API answers", || answers(&videos, Some(&key)).filter(|code| *code == 200));
    assert_eq!(answers(&format!("http://127.0.0.1:{port}/livez"), None), Some(200));
    assert_eq!(answers(&videos, None), Some(401));
    daemon.signal(Signal::TERM);
    // As a wrapper does that passes the same signal on twice.
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
    assert!(!daemon.output().contains("cutting off"), "{}", daemon.output());
    assert!(!daemon.output().contains("a-token-of-this-test"), "it logged its token");
}

#[test]
fn it_is_alive_and_serves_nothing_while_postgres_is_away() {
    let (port, nobody) = (free_port().expect("a port"), free_port().expect("a port"));
    let url = format!("postgres://clipstream:hunter2@127.0.0.1:{nobody}/clipstream");
    let mut daemon = Daemon::start(serve(&url, port));
    let livez = format!("http://127.0.0.1:{port}/livez");
    daemon.until("it lives", || answers(&livez, None).filter(|code| *code == 200));
    assert_ne!(answers(&format!("http://127.0.0.1:{port}/v1/videos"), Some("key")), Some(200));
    daemon.until_output("waiting for Postgres");
    assert!(!daemon.output().contains("hunter2"), "{}", daemon.output());
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
}

#[tokio::test]
async fn it_refuses_a_schema_that_no_longer_serves_it() {
    let database = support::database().await;
    for statement in [
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', true, '', 0)",
        "update schema_floor set migration = 9999",
    ] {
        sqlx::query(statement).execute(database.pool()).await.expect("changed");
    }
    let mut daemon = Daemon::start(serve(&database.url, free_port().expect("a port")));
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(daemon.output().contains("9999"), "{}", daemon.output());
}

#[tokio::test]
async fn it_asks_for_a_migration_that_is_missing() {
    let database = support::database().await;
    sqlx::query("delete from _sqlx_migrations where version > 1")
        .execute(database.pool())
        .await
        .expect("deleted");
    let mut daemon = Daemon::start(serve(&database.url, free_port().expect("a port")));
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(daemon.output().contains("clipstream migrate"), "{}", daemon.output());
}

#[tokio::test]
async fn two_migrations_at_once_do_not_collide() {
    let url = support::empty_database().await;
    let start = || {
        let mut command = Daemon::command();
        command.arg("migrate").env("DATABASE_URL", &url);
        Daemon::start(command)
    };
    let mut both = [start(), start()];
    for daemon in &mut both {
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
    }
    let mut connection = PgConnection::connect(&url).await.expect("it is there");
    let applied: Vec<bool> = sqlx::query_scalar("select success from _sqlx_migrations")
        .fetch_all(&mut connection)
        .await
        .expect("migrated");
    let migrations = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    assert_eq!(applied, vec![true; migrations.expect("migrations").count()]);
    let mut third = start();
    assert_eq!(third.ended().code(), Some(0));
    assert!(third.output().contains("up to date"), "{}", third.output());
}

#[test]
fn a_missing_setting_is_named_with_exit_code_2() {
    let mut command = Daemon::command();
    command.arg("serve").env("DATABASE_URL", "").env("MINIO_WEBHOOK_TOKEN", "a-token-of-this-test");
    let mut daemon = Daemon::start(command);
    assert_eq!(daemon.ended().code(), Some(2));
    assert!(daemon.output().contains("DATABASE_URL is not set"), "{}", daemon.output());
}
