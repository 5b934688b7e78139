//! Attempts that do not end well: strikes, releases, lost workers, and what a dead job does to its video.

use std::time::Duration;

use pipeline::db::{Commit, Retried, Strike};
use pipeline::job::{Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::FailureCause;
use tokio::time::timeout;

use crate::db_actors::{
    DEADLINE, LEASE, PATIENCE, arrived, claimed, complete, detected, job_of, job_row,
    let_time_pass, row, state, sweep, until_blocked,
};
use crate::support::{TestDatabase, database};

const NO_LEASE: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_mins(1);

/// A claim that has run out before its worker could say anything.
async fn lost(test: &TestDatabase, lease: &Lease) -> Lease {
    let claim = test.db.claim(lease.job, WorkerId::new(), NO_LEASE, DEADLINE).await;
    claim.expect("an answer").expect("a claim").lease
}

#[tokio::test]
async fn a_failed_try_comes_back_after_its_delay_until_the_strikes_are_used_up() {
    for (kind, count) in [(Strike::Failure, "failures"), (Strike::Crash, "crashes")] {
        let test = database().await;
        let video = arrived(&test.db).await;
        let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
        for strike in 1..=3 {
            let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
            let cause = FailureCause::MediaCrashed;
            let retried = test.db.retry(&lease, cause, "it went wrong", kind, 3, MINUTE).await;
            let expected = if strike < 3 { Retried::Again } else { Retried::Dead };
            assert_eq!(retried.expect("an answer"), expected, "strike {strike}");
            let row = job_row(test.pool(), job).await;
            assert_eq!(row[count], strike);
            assert_eq!(row["failure_cause"], "media_crashed");
            assert_eq!(row["last_error"], "it went wrong");
            let early = test.db.claim(job, WorkerId::new(), LEASE, DEADLINE).await;
            assert!(early.expect("an answer").is_none(), "not before the delay");
            let_time_pass(test.pool()).await;
        }
        let row = row(test.pool(), video).await;
        assert_eq!(row["state"], "failed");
        assert_eq!(row["failure_cause"], "media_crashed");
        assert_eq!(row["failure_detail"], "it went wrong");
        assert!(row["processed_at"].is_string());
    }
}

#[tokio::test]
async fn strikes_of_different_kinds_are_counted_apart() {
    let test = database().await;
    let video = arrived(&test.db).await;
    for kind in [Strike::Failure, Strike::Crash, Strike::Failure, Strike::Crash] {
        let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
        let cause = FailureCause::Dependency;
        let retried = test.db.retry(&lease, cause, "no", kind, 3, Duration::ZERO).await;
        assert_eq!(retried.expect("an answer"), Retried::Again);
    }
    assert_eq!(state(test.pool(), video).await, "processing");
}

#[tokio::test]
async fn a_deadline_is_not_the_last_because_of_other_failures() {
    let test = database().await;
    let video = arrived(&test.db).await;
    for (cause, max, expected) in [
        (FailureCause::Dependency, 5, Retried::Again),
        (FailureCause::DeadlineExceeded, 2, Retried::Again),
        (FailureCause::Dependency, 5, Retried::Again),
        (FailureCause::DeadlineExceeded, 2, Retried::Dead),
    ] {
        let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
        let kind = Strike::Failure;
        let retried = test.db.retry(&lease, cause, "no", kind, max, Duration::ZERO).await;
        assert_eq!(retried.expect("an answer"), expected, "{cause}");
    }
}

#[tokio::test]
async fn a_release_is_not_counted() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let bell = test.db.jobs_due();
    let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
    let place = job_row(test.pool(), job).await["run_at"].clone();
    for _ in 0..20 {
        let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
        let released = test.db.release(&lease, "MinIO is away", Duration::ZERO).await;
        assert_eq!(released.expect("an answer"), Commit::Applied);
        let row = job_row(test.pool(), lease.job).await;
        assert_eq!(row["last_error"], "MinIO is away");
        assert_eq!(row["run_at"], place, "it keeps its place in the line");
        assert_eq!([&row["failures"], &row["crashes"], &row["lost_workers"]], [0, 0, 0]);
        timeout(PATIENCE, bell.notified()).await.expect("dispatch is told at once");
    }
}

#[tokio::test]
async fn a_dead_transcode_fails_the_video_and_cancels_what_waits() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let transcode = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    let speech = claimed(&test.db, test.pool(), video, Stage::SpeechToText).await;

    let failed = test.db.fail(&transcode, FailureCause::Truncated, "1 s of 10 s decode").await;
    assert_eq!(failed.expect("an answer"), Commit::Applied);

    let row = row(test.pool(), video).await;
    assert_eq!(
        (row["state"].as_str(), row["failure_cause"].as_str()),
        (Some("failed"), Some("truncated"))
    );
    assert!(row["original_claim"].is_null());
    let embeddings = job_of(test.pool(), video, Stage::Embeddings).await;
    assert_eq!(job_row(test.pool(), embeddings).await["state"], "cancelled");
    // What runs may end by itself; the video stays as it is.
    assert_eq!(complete(&test.db, &speech).await, Commit::Applied);
    assert_eq!(state(test.pool(), video).await, "failed");
}

#[tokio::test]
async fn a_job_that_comes_back_to_a_failed_video_is_cancelled_by_its_claim() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let transcode = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    let speech = claimed(&test.db, test.pool(), video, Stage::SpeechToText).await;
    test.db.fail(&transcode, FailureCause::Corrupt, "no").await.expect("an answer");
    test.db.release(&speech, "stop", Duration::ZERO).await.expect("an answer");

    let claim = test.db.claim(speech.job, WorkerId::new(), LEASE, DEADLINE).await;

    assert!(claim.expect("an answer").is_none());
    let row = job_row(test.pool(), speech.job).await;
    assert_eq!(row["state"], "cancelled");
    assert!(row["worker"].is_null() && row["finished_at"].is_string());
}

/// The statement that fails the video has taken its snapshot; the waiting job is locked by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_never_waits_for_another_stages_row() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let transcode = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    let speech = job_of(test.pool(), video, Stage::SpeechToText).await;
    let mut lock = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *lock).await.expect("begun");
    sqlx::query("select 1 from jobs where id = $1 for update")
        .bind(speech.0)
        .execute(&mut *lock)
        .await
        .expect("locked");

    let failed = test.db.fail(&transcode, FailureCause::Corrupt, "no").await;

    assert_eq!(failed.expect("no wait"), Commit::Applied);
    sqlx::query("commit").execute(&mut *lock).await.expect("released");
    let claim = test.db.claim(speech, WorkerId::new(), LEASE, DEADLINE).await;
    assert!(claim.expect("an answer").is_none());
    assert_eq!(job_row(test.pool(), speech).await["state"], "cancelled");
}

#[tokio::test]
async fn a_lost_workers_job_goes_back_to_its_old_place() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let first = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    test.db.release(&first, "stop", Duration::ZERO).await.expect("an answer");
    let place = job_row(test.pool(), first.job).await["run_at"].clone();
    let lost = lost(&test, &first).await;
    let bell = test.db.jobs_due();

    assert_eq!(sweep(&test.db, 3).await, [lost.job]);

    let row = job_row(test.pool(), lost.job).await;
    assert_eq!((&row["state"], &row["run_at"]), (&"pending".into(), &place));
    assert_eq!((&row["lost_workers"], &row["failures"]), (&1.into(), &0.into()));
    assert_eq!(row["failure_cause"], "worker_lost");
    let outcome = test.db.attempt_outcome(&lost).await.expect("an answer");
    assert_eq!(outcome.as_deref(), Some("lost"));
    timeout(PATIENCE, bell.notified()).await.expect("dispatch is told at once");
    assert_eq!(complete(&test.db, &lost).await, Commit::Stale, "the old worker comes too late");
    assert_eq!(sweep(&test.db, 3).await, [], "a second sweep finds nothing");
}

#[tokio::test]
async fn a_job_that_loses_worker_after_worker_is_dead() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    test.db.release(&lease, "stop", Duration::ZERO).await.expect("an answer");
    for round in 1..=3 {
        assert_eq!(state(test.pool(), video).await, "processing", "round {round}");
        let place = job_row(test.pool(), lease.job).await["run_at"].clone();
        lost(&test, &lease).await;
        sweep(&test.db, 3).await;
        if round == 2 {
            assert_ne!(job_row(test.pool(), lease.job).await["run_at"], place, "it waits");
        }
        let_time_pass(test.pool()).await;
    }
    assert_eq!(job_row(test.pool(), lease.job).await["state"], "dead");
    let row = row(test.pool(), video).await;
    assert_eq!(
        (row["state"].as_str(), row["failure_cause"].as_str()),
        (Some("failed"), Some("worker_lost"))
    );
}

#[tokio::test]
async fn an_attempt_past_its_deadline_is_taken_back_however_alive_its_worker_is() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let job = job_of(test.pool(), video, Stage::DuplicateDetection).await;
    let claim = test.db.claim(job, WorkerId::new(), LEASE, Duration::ZERO).await;
    claim.expect("an answer").expect("a claim");

    assert_eq!(sweep(&test.db, 3).await, [job]);

    assert_eq!(job_row(test.pool(), job).await["failure_cause"], "deadline_exceeded");
}

#[tokio::test]
async fn a_sweep_leaves_alone_what_is_held() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    assert_eq!(sweep(&test.db, 3).await, []);
    assert_eq!(complete(&test.db, &lease).await, Commit::Applied);
}

/// The sweep has listed the job; before it acts, a heartbeat goes through.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_between_the_look_and_the_act_of_a_sweep_wins() {
    let test = database().await;
    let video = arrived(&test.db).await;
    let first = claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await;
    test.db.release(&first, "stop", Duration::ZERO).await.expect("an answer");
    let lease = lost(&test, &first).await;
    let mut lock = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *lock).await.expect("begun");
    sqlx::query("update jobs set lease_until = now() + interval '15 s' where id = $1")
        .bind(lease.job.0)
        .execute(&mut *lock)
        .await
        .expect("a heartbeat, not committed yet");

    let (swept, ()) = tokio::join!(sweep(&test.db, 3), async {
        until_blocked(test.pool(), 1).await;
        sqlx::query("commit").execute(&mut *lock).await.expect("committed");
    });

    assert_eq!(swept, []);
    assert_eq!(complete(&test.db, &lease).await, Commit::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_at_once_count_each_lost_worker_once() {
    let test = database().await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        let video = detected(&test.db, test.pool()).await;
        for stage in [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings] {
            let job = job_of(test.pool(), video, stage).await;
            let claim = test.db.claim(job, WorkerId::new(), NO_LEASE, DEADLINE).await;
            claim.expect("an answer").expect("a claim");
            jobs.push(job);
        }
    }

    let sweep = || sweep(&test.db, 1);
    let (a, b, c) = tokio::join!(sweep(), sweep(), sweep());

    let mut swept = [a, b, c].concat();
    swept.sort_unstable();
    jobs.sort_unstable();
    assert_eq!(swept, jobs, "each by exactly one sweep, and none ran into a deadlock");
    let failed: i64 = sqlx::query_scalar("select count(*) from videos where state = 'failed'")
        .fetch_one(test.pool())
        .await
        .expect("a count");
    assert_eq!(failed, 20);
}
