//! Connections that go from one statement to the next without a question: never too many, never one that is dead for
//! long, and none lost by whoever stops waiting.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pipeline::db::Db;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::support::database;

const MOST: u32 = 3;

/// Connections of the daemon's kind to this database.
async fn open(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
          where datname = current_database() and application_name = 'clipstream'",
    )
    .fetch_one(pool)
    .await
    .expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_statements_share_few_connections() {
    let test = database().await;
    let db = Db::connect(&test.url, MOST).expect("a URL");
    let statements = join_all((0..300).map(|_| db.ping())).await;
    assert!(statements.iter().all(Result::is_ok), "{statements:?}");
    assert_eq!(open(test.pool()).await, i64::from(MOST));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_nobody_waits_for_leave_their_connections_to_others() {
    let test = database().await;
    let db = Db::connect(&test.url, MOST).expect("a URL");
    for round in 0..50 {
        let patience = Duration::from_micros(round * 40);
        for dropped in join_all((0..MOST).map(|_| timeout(patience, db.ping()))).await {
            assert!(dropped.is_err() || dropped.is_ok_and(|answer| answer.is_ok()));
        }
    }
    let statements = join_all((0..30).map(|_| db.ping())).await;
    assert!(statements.iter().all(Result::is_ok), "{statements:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_are_met_once_and_not_again() {
    let test = database().await;
    let db = Db::connect(&test.url, MOST).expect("a URL");
    let statements = join_all((0..30).map(|_| db.ping())).await;
    assert!(statements.iter().all(Result::is_ok), "{statements:?}");
    sqlx::query(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity
          where datname = current_database() and application_name = 'clipstream'",
    )
    .execute(test.pool())
    .await
    .expect("ended");
    let begun = Instant::now();
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(db.ping().await.is_err());
    }
    assert!(refused <= 1, "{refused} statements met a dead connection");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn cold_connections_go_back_to_the_pool_for_whoever_asks_it() {
    let test = database().await;
    let db = Db::connect(&test.url, MOST).expect("a URL");
    join_all((0..30).map(|_| db.ping())).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Every one of them was asked whether it lives, and serves.
    sqlx::query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'clipstream' and datname = current_database()")
        .execute(test.pool())
        .await
        .expect("ended");
    assert!(db.ping().await.is_ok(), "a connection that had been idle was believed");
}

#[test]
fn a_database_handle_may_outlive_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (db, _test) = runtime.block_on(async {
        let test = database().await;
        let db = Db::connect(&test.url, MOST).expect("a URL");
        db.ping().await.expect("an answer");
        (db, test)
    });
    drop(runtime);
    drop(db);
}
