//! Fair dispatch: whose job goes next, and that a mark is never believed too long.

use std::collections::HashMap;
use std::time::Duration;

use pipeline::db::Db;
use pipeline::job::{JobId, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::OwnerId;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::db_actors::{
    DEADLINE, LEASE, PATIENCE, arrived, claimed, detected, job_of, let_time_pass,
};
use crate::support::database;

const STAGE: Stage = Stage::DuplicateDetection;

/// An owner with this many pending jobs, the oldest waiting for `age_s` seconds.
async fn backlog(pool: &PgPool, name: &str, jobs: i32, age_s: i32) -> OwnerId {
    let owner = OwnerId::new();
    sqlx::query(
        "with o as (insert into owners (id, name) values ($1, $2)),
         v as (insert into videos (id, owner_id, bucket, object_key, identity, announced_by, state)
               select gen_random_uuid(), $1, 'b', $2 || n, 'etag:x', 'webhook', 'processing'
                 from generate_series(1, $3) n
               returning id, object_key)
         insert into jobs (id, video_id, owner_id, stage, run_at)
         select gen_random_uuid(), v.id, $1, 'duplicate_detection',
                now() - make_interval(secs => $4) + make_interval(secs => 0.001 * substring(v.object_key from '[0-9]+$')::int)
           from v",
    )
    .bind(owner.0)
    .bind(name)
    .bind(jobs)
    .bind(f64::from(age_s))
    .execute(pool)
    .await
    .expect("a backlog");
    owner
}

async fn owners(pool: &PgPool, jobs: &[JobId]) -> Vec<OwnerId> {
    let rows: Vec<(uuid::Uuid, uuid::Uuid)> =
        sqlx::query_as("select id, owner_id from jobs").fetch_all(pool).await.expect("rows");
    let owner: HashMap<_, _> = rows.into_iter().collect();
    jobs.iter().map(|job| OwnerId(owner[&job.0])).collect()
}

#[tokio::test]
async fn owners_take_turns_whatever_the_length_of_their_line() {
    let test = database().await;
    let noisy = backlog(test.pool(), "noisy", 50, 100).await;
    let quiet = backlog(test.pool(), "quiet", 2, 10).await;
    let late = backlog(test.pool(), "late", 1, 1).await;

    let due = test.db.due(STAGE, 7).await.expect("due");

    let order = owners(test.pool(), &due).await;
    assert_eq!(order, [noisy, quiet, late, noisy, quiet, noisy, noisy]);
}

#[tokio::test]
async fn one_free_slot_at_a_time_is_shared_as_well() {
    let test = database().await;
    let noisy = backlog(test.pool(), "noisy", 50, 100).await;
    let quiet = backlog(test.pool(), "quiet", 3, 1).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        let due = test.db.due(STAGE, 1).await.expect("due");
        // Half of them run, half wait in Redis: both count as taken.
        if order.len() % 2 == 0 {
            let claim = test.db.claim(due[0], WorkerId::new(), LEASE, DEADLINE).await;
            claim.expect("an answer").expect("a claim");
        }
        order.extend(owners(test.pool(), &due).await);
    }
    assert_eq!(order, [noisy, quiet, noisy, quiet, noisy, quiet]);
}

#[tokio::test]
async fn within_an_owner_priority_goes_first_and_then_age() {
    let test = database().await;
    backlog(test.pool(), "owner", 5, 100).await;
    sqlx::query("update jobs set priority = 1 where id = (select id from jobs order by run_at desc limit 1)")
        .execute(test.pool())
        .await
        .expect("raised");
    let expected: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from jobs order by priority desc, run_at")
            .fetch_all(test.pool())
            .await
            .expect("rows");

    let due = test.db.due(STAGE, 10).await.expect("due");

    assert_eq!(due.iter().map(|job| job.0).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn only_pending_jobs_of_the_stage_whose_time_has_come_are_due() {
    let test = database().await;
    let (waits, runs) = (arrived(&test.db).await, arrived(&test.db).await);
    let lease = claimed(&test.db, test.pool(), waits, STAGE).await;
    let minute = Duration::from_mins(1);
    test.db.release(&lease, "MinIO is away", minute).await.expect("an answer");
    claimed(&test.db, test.pool(), runs, STAGE).await;
    let other = detected(&test.db, test.pool()).await;

    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), []);
    let transcode = job_of(test.pool(), other, Stage::Transcode).await;
    assert_eq!(test.db.due(Stage::Transcode, 10).await.expect("due"), [transcode]);
    let_time_pass(test.pool()).await;
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), [lease.job]);
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), [], "it is marked");
    assert_eq!(test.db.due(STAGE, 0).await.expect("due"), []);
}

#[tokio::test]
async fn a_mark_can_be_taken_back_and_old_marks_can_be_listed() {
    let test = database().await;
    backlog(test.pool(), "owner", 3, 100).await;
    let due = test.db.due(STAGE, 10).await.expect("due");
    assert_eq!(test.db.dispatched(STAGE, Duration::ZERO).await.expect("marks").len(), 3);
    let minute = Duration::from_mins(1);
    assert_eq!(test.db.dispatched(STAGE, minute).await.expect("marks"), [], "they are young");

    let claim = test.db.claim(due[0], WorkerId::new(), LEASE, DEADLINE).await;
    claim.expect("an answer").expect("a claim");
    assert_eq!(test.db.undispatch(&due).await.expect("a count"), 2, "one runs");
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), due[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatchers_at_once_never_take_the_same_job() {
    let test = database().await;
    backlog(test.pool(), "one", 200, 100).await;
    backlog(test.pool(), "two", 200, 50).await;
    let mut taken = Vec::new();
    while taken.len() < 400 {
        let due = || test.db.due(STAGE, 20);
        let (a, b, c) = tokio::join!(due(), due(), due());
        for due in [a, b, c] {
            taken.extend(due.expect("due"));
        }
    }
    let all = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((all, taken.len()), (400, 400));
}

#[tokio::test]
async fn a_long_backlog_costs_no_more_than_a_short_one() {
    let test = database().await;
    backlog(test.pool(), "noisy", 20_000, 100_000).await;
    for owner in 0..20 {
        backlog(test.pool(), &format!("quiet{owner}-"), 5, 10).await;
    }
    sqlx::query("analyze jobs").execute(test.pool()).await.expect("analysed");
    // Rows that were read, not seconds: the same on every machine.
    let read = async || -> i64 {
        sqlx::query_scalar(
            "select t.seq_tup_read + (select sum(i.idx_tup_read)::bigint from pg_stat_user_indexes i
                                       where i.relname = 'jobs')
               from pg_stat_user_tables t where t.relname = 'jobs'",
        )
        .fetch_one(test.pool())
        .await
        .expect("a count")
    };
    sqlx::query("select pg_stat_force_next_flush()").execute(test.pool()).await.expect("flushed");
    let before = read().await;

    // A session hands in its counts when it ends.
    let dispatcher = Db::connect(&test.url, 1).expect("a URL");
    assert_eq!(dispatcher.due(STAGE, 10).await.expect("due").len(), 10);
    drop(dispatcher);

    let handed_in = async {
        loop {
            let after = read().await;
            if after > before {
                return after - before;
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = timeout(PATIENCE, handed_in).await.expect("the counts never came");
    assert!(rows < 2_000, "{rows} rows were read");
}
