//! The schema and the door itself: migrations, refusals, and errors that say what to do.

use std::time::Duration;

use pipeline::db::{Db, DbError, SchemaMismatch};
use sqlx::{AssertSqlSafe, Executor};

use crate::db_actors::{arrived, job_of, until_blocked};
use crate::support::{database, empty_database};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_two_processes_do_not_collide() {
    let url = empty_database().await;
    let processes: Vec<Db> = (0..4).map(|_| Db::connect(&url, 2).expect("a URL")).collect();
    assert!(matches!(
        processes[0].check_schema().await,
        Err(SchemaMismatch::Behind { missing }) if missing.first() == Some(&1)
    ));

    let (a, b, c, d) = tokio::join!(
        processes[0].migrate(),
        processes[1].migrate(),
        processes[2].migrate(),
        processes[3].migrate()
    );

    for migrated in [a, b, c, d] {
        migrated.expect("migrated");
    }
    for process in &processes {
        process.check_schema().await.expect("the schema of this version");
        assert_eq!(process.migrate().await.expect("nothing to do"), 0);
    }
}

#[tokio::test]
async fn an_unknown_schema_is_refused_and_left_alone() {
    let test = database().await;
    test.db.check_schema().await.expect("a fresh one is known");
    let change = async |statement: &'static str| {
        test.pool().execute(statement).await.expect("changed");
    };

    change("insert into _sqlx_migrations values (9999, 'future', now(), true, '\\x00', 0)").await;
    change("update schema_floor set migration = 9999").await;
    let refused = test.db.check_schema().await.expect_err("unknown");
    assert!(matches!(refused, SchemaMismatch::Unknown { version: 9999 }), "{refused}");
    assert!(refused.to_string().contains("newer"), "{refused}");
    let migrated = test.db.migrate().await.expect_err("refused");
    assert!(matches!(migrated, DbError::Unusable(_)), "{migrated}");
    change("delete from _sqlx_migrations where version = 9999").await;

    change("update _sqlx_migrations set checksum = '\\x00' where version = 1").await;
    let refused = test.db.check_schema().await.expect_err("changed");
    assert!(matches!(refused, SchemaMismatch::Changed { version: 1 }), "{refused}");
    let migrated = test.db.migrate().await.expect_err("refused");
    assert!(matches!(migrated, DbError::Unusable(_)), "{migrated}");

    change("delete from _sqlx_migrations where version = 1").await;
    let refused = test.db.check_schema().await.expect_err("behind");
    assert!(matches!(&refused, SchemaMismatch::Behind { missing } if missing == &[1]), "{refused}");
    assert!(refused.to_string().contains("clipstream migrate"), "{refused}");
}

#[tokio::test]
async fn an_older_binary_works_on_a_schema_that_was_only_added_to() {
    let test = database().await;
    test.pool()
        .execute(
            "alter table videos add column from_the_future text;
             insert into _sqlx_migrations values (9999, 'expand', now(), true, '\\x00', 0)",
        )
        .await
        .expect("expanded");
    test.db.check_schema().await.expect("it still serves us");
    assert_eq!(test.db.migrate().await.expect("nothing is missing"), 0);
    arrived(&test.db).await;

    // A hole below what we know is another history, whatever the floor says.
    test.pool()
        .execute("insert into _sqlx_migrations values (0, 'foreign', now(), true, '\\x00', 0)")
        .await
        .expect("changed");
    let refused = test.db.check_schema().await.expect_err("not ours");
    assert!(matches!(refused, SchemaMismatch::Unknown { version: 0 }), "{refused}");
}

#[tokio::test]
async fn every_table_view_and_column_is_commented() {
    let test = database().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "select c.relname || coalesce('.' || a.attname, '')
           from pg_class c
           left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and c.relkind = 'r'
          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
            and c.relname <> '_sqlx_migrations'
            and (obj_description(c.oid) is null
                 or (a.attnum is not null and col_description(c.oid, a.attnum) is null))",
    )
    .fetch_all(test.pool())
    .await
    .expect("names");
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[tokio::test]
async fn a_bad_url_is_refused_at_once_and_never_quoted() {
    for url in ["", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d"] {
        let refused = Db::connect(url, 1).expect_err("refused");
        assert!(matches!(refused, DbError::Unusable(_)), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_outage_and_a_missing_database_is_not() {
    let test = database().await;
    let away = Db::connect("postgres://u:secret@127.0.0.1:1/d", 1).expect("lazy");
    let error = away.ping().await.expect_err("nobody listens");
    assert!(matches!(error, DbError::Unavailable(_)), "{error}");
    assert!(!error.to_string().contains("secret") && !format!("{away:?}").contains("secret"));

    let (server, _) = test.url.rsplit_once('/').expect("a URL with a database");
    let missing = Db::connect(&format!("{server}/no_such_database"), 1).expect("lazy");
    let error = missing.ping().await.expect_err("no such database");
    assert!(matches!(error, DbError::Unusable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_got_is_an_outage_and_leaves_nothing() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let job = job_of(test.pool(), video, pipeline::stage::Stage::DuplicateDetection).await;
    let mut lock = test.pool().acquire().await.expect("a connection");
    lock.execute("begin").await.expect("begun");
    lock.execute("lock table job_attempts in share mode").await.expect("locked");

    let (lease, worker) = (Duration::from_secs(15), pipeline::job::WorkerId::new());
    let claim = test.db.claim(job, worker, lease, lease).await.expect_err("after 2 s");

    assert!(matches!(claim, DbError::Unavailable(_)), "{claim}");
    lock.execute("rollback").await.expect("released");
    let claim = test.db.claim(job, worker, lease, lease).await.expect("an answer");
    assert_eq!(claim.expect("a claim").lease.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_connection_is_an_outage_and_the_next_call_works() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let mut lock = test.pool().acquire().await.expect("a connection");
    lock.execute("begin").await.expect("begun");
    lock.execute("lock table job_attempts in share mode").await.expect("locked");
    let job = job_of(test.pool(), video, pipeline::stage::Stage::DuplicateDetection).await;
    let (lease, worker) = (Duration::from_secs(15), pipeline::job::WorkerId::new());

    let (claim, ()) = tokio::join!(test.db.claim(job, worker, lease, lease), async {
        until_blocked(test.pool(), 1).await;
        test.pool()
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'",
            )
            .await
            .expect("terminated");
    });

    let error = claim.expect_err("cut");
    assert!(matches!(error, DbError::Unavailable(_)), "{error}");
    lock.execute("rollback").await.expect("released");
    test.db.ping().await.expect("a fresh connection");
    assert!(test.db.claim(job, worker, lease, lease).await.expect("an answer").is_some());
}

#[tokio::test]
async fn settings_that_make_a_commit_no_promise_are_named() {
    let test = database().await;
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(test.pool()).await.expect("name");
    let set = AssertSqlSafe(format!("alter database {name} set synchronous_commit = off"));
    test.pool().execute(set).await.expect("set");

    let fresh = Db::connect(&test.url, 1).expect("a URL");
    let warnings = fresh.settings_warnings().await.expect("warnings");

    assert!(warnings.iter().any(|w| w.contains("synchronous_commit = off")), "{warnings:?}");
    let version = fresh.server_version().await.expect("a version");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
}
