//! Claims, leases and the fence: a worker that is not the row's any more changes nothing.

use std::time::Duration;

use pipeline::db::{Commit, Db, DbError, DuplicateCommit, Kept, Retried, Strike};
use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::{FailureCause, VideoId};
use serde_json::json;
use sqlx::Executor;

use crate::db_actors::{
    DEADLINE, LEASE, arrived, claimed, complete, detected, everything, facts, job_of, job_row,
    let_time_pass, ready,
};
use crate::support::{TestDatabase, database};

/// Every fenced write with this lease; each answers whether it was refused.
async fn refusals(db: &Db, lease: &Lease, original: VideoId) -> Vec<(&'static str, bool)> {
    let stale = |commit: Result<Commit, DbError>| commit.expect("an answer") == Commit::Stale;
    let lost = |error: DbError| matches!(error, DbError::LeaseLost);
    let cause = FailureCause::Corrupt;
    let objects = [(format!("thumbnails/{}.jpg", lease.video), 5)];
    let second = Duration::from_secs(1);
    vec![
        ("set_progress", stale(db.set_progress(lease, 0.5).await)),
        ("mark_playable", stale(db.mark_playable(lease).await)),
        ("announce", stale(db.announce(lease, &objects).await)),
        ("claim_size", db.claim_size(lease, 1_000).await.is_err_and(lost)),
        ("claim_bytes", db.claim_bytes(lease, [1; 32], &[]).await.is_err_and(lost)),
        ("complete_original", stale(db.complete_original(lease, Some([1; 32])).await)),
        (
            "complete_transcode",
            stale(db.complete_transcode(lease, [1; 32], &facts(), &json!({})).await),
        ),
        ("complete_speech", stale(db.complete_speech(lease, &json!({})).await)),
        (
            "complete_embeddings",
            stale(db.complete_embeddings(lease, "e", "m", Some((1.0, &[1])), &json!({})).await),
        ),
        (
            "complete_duplicate",
            db.complete_duplicate(lease, original, [1; 32]).await.expect("an answer")
                == DuplicateCommit::Stale,
        ),
        ("wait_for", stale(db.wait_for(lease, original, [1; 32], second).await)),
        ("fail", stale(db.fail(lease, cause, "no").await)),
        (
            "retry",
            db.retry(lease, cause, "no", Strike::Failure, 3, second).await.expect("an answer")
                == Retried::Stale,
        ),
        ("release", stale(db.release(lease, "stop", second).await)),
        (
            "heartbeat",
            db.heartbeat(lease.worker, &[*lease], LEASE).await.expect("a list").is_empty(),
        ),
    ]
}

async fn assert_fenced_off(test: &TestDatabase, lease: &Lease, original: VideoId, why: &str) {
    let before = everything(test.pool()).await;
    for (write, refused) in refusals(&test.db, lease, original).await {
        assert!(refused, "{write} was accepted from a lease with {why}");
    }
    assert_eq!(everything(test.pool()).await, before, "a lease with {why} changed a row");
}

#[tokio::test]
async fn a_stale_lease_changes_nothing() {
    let test = database().await;
    let original = ready(&test.db, test.pool()).await;
    for stage in Stage::ALL {
        let video = match stage {
            Stage::DuplicateDetection => arrived(&test.db).await,
            Stage::Transcode | Stage::SpeechToText | Stage::Embeddings => {
                detected(&test.db, test.pool()).await
            }
        };
        let lease = claimed(&test.db, test.pool(), video, stage).await;

        let older = Lease { attempt: lease.attempt - 1, ..lease };
        assert_fenced_off(&test, &older, original, "an older attempt").await;
        let newer = Lease { attempt: lease.attempt + 1, ..lease };
        assert_fenced_off(&test, &newer, original, "an attempt that is not yet").await;
        let stranger = Lease { worker: WorkerId::new(), ..lease };
        assert_fenced_off(&test, &stranger, original, "another worker").await;
        let nowhere = Lease { job: JobId::new(), ..lease };
        assert_fenced_off(&test, &nowhere, original, "an unknown job").await;

        let released = test.db.release(&lease, "stop", Duration::ZERO).await;
        assert_eq!(released.expect("an answer"), Commit::Applied);
        assert_fenced_off(&test, &lease, original, "a job that is pending again").await;

        let next = claimed(&test.db, test.pool(), video, stage).await;
        assert_eq!(next.attempt, lease.attempt + 1);
        assert_fenced_off(&test, &lease, original, "a job that another worker runs").await;

        assert_eq!(complete(&test.db, &next).await, Commit::Applied);
        assert_fenced_off(&test, &next, original, "a job that is done").await;
    }
}

#[tokio::test]
async fn a_lease_on_a_dead_job_changes_nothing() {
    let test = database().await;
    let original = ready(&test.db, test.pool()).await;
    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    test.db.fail(&lease, FailureCause::EmptyFile, "it has 0 bytes").await.expect("an answer");
    assert_fenced_off(&test, &lease, original, "a dead job").await;
}

#[tokio::test]
async fn a_claim_tells_the_worker_what_the_row_knows() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
    let worker = WorkerId::new();

    let claim = test.db.claim(job, worker, LEASE, DEADLINE).await.expect("an answer");

    let claim = claim.expect("a claim");
    assert_eq!((claim.lease.job, claim.lease.video, claim.lease.worker), (job, video, worker));
    assert_eq!((claim.lease.stage, claim.lease.attempt), (Stage::DuplicateDetection, 1));
    assert_eq!(claim.source.etag.as_deref(), Some("e"));
    assert_eq!(claim.source.size_bytes, Some(1_000));
    assert_eq!((claim.failures, claim.crashes), (0, 0));
    let outcome = test.db.attempt_outcome(&claim.lease).await.expect("an answer");
    assert_eq!(outcome, None, "it still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_of_one_job_one_succeeds() {
    let test = database().await;
    for _ in 0..50 {
        let video = arrived(&test.db).await;
        let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
        let claim = || test.db.claim(job, WorkerId::new(), LEASE, DEADLINE);
        let (a, b, c, d) = tokio::join!(claim(), claim(), claim(), claim());
        let won = [a, b, c, d].into_iter().filter(|c| c.as_ref().expect("an answer").is_some());
        assert_eq!(won.count(), 1);
        assert_eq!(job_row(test.pool(), job).await["attempt"], 1);
    }
}

#[tokio::test]
async fn only_a_pending_job_that_is_due_can_be_claimed() {
    let test = database().await;
    let claim = |job| test.db.claim(job, WorkerId::new(), LEASE, DEADLINE);
    assert!(claim(JobId::new()).await.expect("an answer").is_none(), "no such job");

    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    assert!(claim(lease.job).await.expect("an answer").is_none(), "it runs");

    test.db.release(&lease, "MinIO is away", Duration::from_mins(1)).await.expect("an answer");
    assert!(claim(lease.job).await.expect("an answer").is_none(), "it is not due");

    let_time_pass(test.pool()).await;
    let lease = claim(lease.job).await.expect("an answer").expect("it is due").lease;
    complete(&test.db, &lease).await;
    assert!(claim(lease.job).await.expect("an answer").is_none(), "it is done");
}

#[tokio::test]
async fn a_heartbeat_extends_what_is_held_and_names_only_that() {
    let test = database().await;
    let db = &test.db;
    let worker = WorkerId::new();
    let mut leases = Vec::new();
    for _ in 0..3 {
        let video = arrived(db).await;
        let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
        let claim = db.claim(job, worker, LEASE, DEADLINE).await.expect("an answer");
        leases.push(claim.expect("a claim").lease);
    }
    let before = job_row(test.pool(), leases[0].job).await["lease_until"].clone();
    // The second is past its deadline, the third was taken over.
    sqlx::query("update jobs set deadline_at = now() where id = $1")
        .bind(leases[1].job.0)
        .execute(test.pool())
        .await
        .expect("past");
    db.release(&leases[2], "stop", Duration::ZERO).await.expect("an answer");
    db.claim(leases[2].job, worker, LEASE, DEADLINE).await.expect("an answer").expect("a claim");

    let held = db.heartbeat(worker, &leases, LEASE * 2).await.expect("a list");

    let kept = Kept { job: leases[0].job, attempt: leases[0].attempt, renewed: true };
    assert_eq!(held, [kept]);
    let after = job_row(test.pool(), leases[0].job).await["lease_until"].clone();
    assert!(after.as_str() > before.as_str(), "{before} → {after}");
    assert!(db.heartbeat(worker, &[], LEASE).await.expect("a list").is_empty());
}

#[tokio::test]
async fn progress_is_kept_between_0_and_1() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    for (said, kept) in [(0.25, 0.25), (7.0, 1.0), (-1.0, 0.0), (f32::NAN, 0.0)] {
        let commit = test.db.set_progress(&lease, said).await.expect("an answer");
        assert_eq!(commit, Commit::Applied);
        assert_eq!(job_row(test.pool(), lease.job).await["progress"], kept);
    }
}

#[tokio::test]
async fn announced_objects_are_rows_and_a_foreign_key_is_refused() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    let key = |name: &str| format!("processed-videos/{video}/{name}");
    let objects = [(key("b"), 2), (key("a"), 1), (key("b"), 3)];

    for size in [10, 20] {
        let mut objects = objects.to_vec();
        objects.push((key("c"), size));
        let commit = test.db.announce(&lease, &objects).await.expect("an answer");
        assert_eq!(commit, Commit::Applied);
    }

    let rows: Vec<(String, i64)> =
        sqlx::query_as("select key, size_bytes from objects order by key")
            .fetch_all(test.pool())
            .await
            .expect("rows");
    assert_eq!(rows, [(key("a"), 1), (key("b"), 3), (key("c"), 20)]);

    let other = detected(&test.db, test.pool()).await;
    let foreign = claimed(&test.db, test.pool(), other, Stage::Transcode).await;
    let refused = test.db.announce(&foreign, &[(key("a"), 1)]).await;
    assert!(matches!(refused, Err(DbError::Constraint(_))), "{refused:?}");
}

#[tokio::test]
async fn the_outcome_of_an_attempt_can_be_asked_afterwards() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let first = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    test.db.release(&first, "stop", Duration::ZERO).await.expect("an answer");
    let second = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    complete(&test.db, &second).await;

    let outcome = async |lease| test.db.attempt_outcome(lease).await.expect("an answer");
    assert_eq!(outcome(&first).await.as_deref(), Some("released"));
    assert_eq!(outcome(&second).await.as_deref(), Some("done"));
    let stranger = Lease { worker: WorkerId::new(), ..second };
    assert_eq!(outcome(&stranger).await, None);
}

#[tokio::test]
async fn jobs_that_are_claimed_together_are_claimed_as_one_by_one() {
    let test = database().await;
    let worker = WorkerId::new();
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let video = arrived(&test.db).await;
        jobs.push(job_of(test.pool(), video, Stage::DuplicateDetection).await);
    }
    let [first, locked, failed, ended, last] = jobs[..] else { unreachable!("five") };
    sqlx::query("update videos set state = 'failed', failure_cause = 'corrupt' where id = (select video_id from jobs where id = $1)")
        .bind(failed.0)
        .execute(test.pool())
        .await
        .expect("failed");
    sqlx::query("update jobs set state = 'done' where id = $1")
        .bind(ended.0)
        .execute(test.pool())
        .await
        .expect("ended");
    let mut other = test.pool().acquire().await.expect("a connection");
    other.execute("begin").await.expect("begun");
    sqlx::query("select id from jobs where id = $1 for update")
        .bind(locked.0)
        .execute(&mut *other)
        .await
        .expect("locked");

    let claims = test.db.claim_all(&jobs, worker, LEASE, DEADLINE).await.expect("an answer");

    let mut leases: Vec<Lease> =
        claims.into_iter().map(|claim| claim.expect("a row that makes sense").lease).collect();
    leases.sort_by_key(|lease| lease.job);
    let mut wanted = [first, last];
    wanted.sort_unstable();
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), wanted);
    assert_eq!(job_row(test.pool(), failed).await["state"], "cancelled");
    assert_eq!(job_row(test.pool(), locked).await["state"], "pending", "nobody waited for it");
    for lease in &leases {
        assert_eq!((lease.attempt, lease.worker), (1, worker));
        assert_eq!(complete(&test.db, lease).await, Commit::Applied, "the lease is a whole one");
    }
    other.execute("commit").await.expect("committed");
    let again = test.db.claim_all(&jobs, worker, LEASE, DEADLINE).await.expect("an answer");
    assert_eq!(again.len(), 1, "the one that was locked");
}
