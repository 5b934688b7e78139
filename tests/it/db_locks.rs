//! Rows that somebody's open transaction holds, as an operator's psql does: only they wait, nobody else does.

use std::time::{Duration, Instant};

use pipeline::db::{Db, DbError, Kept};
use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::VideoId;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use uuid::Uuid;

use crate::db_actors::{DEADLINE, LEASE, arrived, claimed, job_of, job_row, row};
use crate::support::{TestDatabase, database};

const STAGE: Stage = Stage::DuplicateDetection;
/// Far less than a statement waits for a lock.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Takes a lock, and keeps it until the connection is dropped or told otherwise.
async fn locked(test: &TestDatabase, sql: &'static str, id: Uuid) -> PoolConnection<Postgres> {
    let mut operator = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *operator).await.expect("begun");
    sqlx::query(sql).bind(id).execute(&mut *operator).await.expect("locked");
    operator
}

async fn locked_job(test: &TestDatabase, job: JobId) -> PoolConnection<Postgres> {
    locked(test, "select 1 from jobs where id = $1 for update", job.0).await
}

async fn end(mut operator: PoolConnection<Postgres>) {
    sqlx::query("rollback").execute(&mut *operator).await.expect("unlocked");
}

/// Leases that ran out, the first of them first.
async fn expired(test: &TestDatabase, count: i32) -> Vec<Lease> {
    let mut leases = Vec::new();
    for number in 0..count {
        let video = arrived(&test.db).await;
        leases.push(claimed(&test.db, test.pool(), video, STAGE).await);
        sqlx::query(
            "update jobs set lease_until = now() - make_interval(mins => $2) where id = $1",
        )
        .bind(leases[leases.len() - 1].job.0)
        .bind(60 - number)
        .execute(test.pool())
        .await
        .expect("over");
    }
    leases
}

/// What a sweep of the last strike took back in spite of what held it up.
async fn swept_around(db: &Db) -> (Vec<JobId>, DbError) {
    let swept = db.sweep(1).await.expect("a sweep");
    assert!(swept.taken_back.iter().all(|taken| taken.dead && taken.stage == STAGE));
    let held_up = swept.held_up.expect("it says that it left one");
    (swept.taken_back.into_iter().map(|taken| taken.job).collect(), held_up)
}

#[tokio::test]
async fn a_sweep_goes_around_a_job_or_video_that_somebody_holds() {
    let test = database().await;
    let leases = expired(&test, 3).await;
    let job = locked_job(&test, leases[0].job).await;
    let VideoId(video) = leases[1].video;
    let video = locked(&test, "select 1 from videos where id = $1 for update", video).await;

    let (taken, held_up) = swept_around(&test.db).await;

    assert_eq!(taken, [leases[2].job]);
    assert!(held_up.to_string().contains("55P03"), "{held_up}");
    end(job).await;
    end(video).await;
    let swept = test.db.sweep(1).await.expect("a sweep");
    let taken: Vec<JobId> = swept.taken_back.into_iter().map(|taken| taken.job).collect();
    assert_eq!(taken, [leases[0].job, leases[1].job], "the next one finds them free");
    assert_eq!(row(test.pool(), leases[0].video).await["state"], "failed");
}

#[tokio::test]
async fn a_sweep_goes_around_a_row_of_a_later_version() {
    let test = database().await;
    let leases = expired(&test, 2).await;
    sqlx::raw_sql("alter table jobs drop constraint jobs_stage_check")
        .execute(test.pool())
        .await
        .expect("later");
    sqlx::query("update jobs set stage = 'subtitles' where id = $1")
        .bind(leases[0].job.0)
        .execute(test.pool())
        .await
        .expect("a stage that we do not know");

    let (taken, held_up) = swept_around(&test.db).await;

    assert_eq!(taken, [leases[1].job]);
    assert!(matches!(held_up, DbError::BadRow { .. }), "{held_up}");
}

#[tokio::test]
async fn a_claim_does_not_wait_for_a_row_that_somebody_holds() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let job = job_of(test.pool(), video, STAGE).await;
    let operator = locked_job(&test, job).await;
    let claim = || test.db.claim(job, WorkerId::new(), LEASE, DEADLINE);

    let begun = Instant::now();
    assert!(claim().await.expect("an answer, and no outage").is_none());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

    end(operator).await;
    assert!(claim().await.expect("an answer").is_some(), "it is still to be done");
}

#[tokio::test]
async fn a_heartbeat_renews_what_it_can_and_keeps_what_somebody_holds() {
    let test = database().await;
    let worker = WorkerId::new();
    let mut leases = Vec::new();
    for _ in 0..2 {
        let video = arrived(&test.db).await;
        let job = job_of(test.pool(), video, STAGE).await;
        let claim = test.db.claim(job, worker, LEASE, DEADLINE).await.expect("an answer");
        leases.push(claim.expect("a claim").lease);
    }
    let until = async |lease: &Lease| job_row(test.pool(), lease.job).await["lease_until"].clone();
    let before = [until(&leases[0]).await, until(&leases[1]).await];
    let operator = locked_job(&test, leases[0].job).await;
    let kept = |lease: &Lease, renewed| Kept { job: lease.job, attempt: lease.attempt, renewed };
    let beat = async || {
        let mut kept = test.db.heartbeat(worker, &leases, LEASE * 2).await.expect("a list");
        kept.sort_by_key(|kept| kept.job != leases[0].job);
        kept
    };

    let begun = Instant::now();
    assert_eq!(beat().await, [kept(&leases[0], false), kept(&leases[1], true)]);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(until(&leases[0]).await, before[0]);
    assert_ne!(until(&leases[1]).await, before[1]);

    end(operator).await;
    assert_eq!(beat().await, [kept(&leases[0], true), kept(&leases[1], true)]);
}

#[tokio::test]
async fn a_heartbeat_needs_no_connection_that_others_use_up() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, STAGE).await;
    let db = Db::connect(&test.url, 1).expect("a URL");
    let mut operator = test.pool().acquire().await.expect("a connection");
    sqlx::raw_sql("begin; lock table reconcile_cursor in access exclusive mode")
        .execute(&mut *operator)
        .await
        .expect("locked");

    let held_up = db.reconcile_cursor("clipstream", "raw-uploads/");
    let beat = async {
        tokio::time::sleep(AT_ONCE / 2).await;
        let begun = Instant::now();
        let kept = db.heartbeat(lease.worker, &[lease], LEASE).await.expect("an answer");
        (kept.len(), begun.elapsed())
    };
    let (held_up, (kept, took)) = tokio::join!(held_up, beat);

    assert!(matches!(held_up, Err(DbError::Unavailable(_))), "the only connection: {held_up:?}");
    assert!(kept == 1 && took < AT_ONCE, "{kept} kept after {took:?}");
    end(operator).await;
}
