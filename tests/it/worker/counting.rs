//! What counts as whose failure, and when a job is dead.

use std::time::Duration;

use pipeline::metrics::{ATTEMPTS, AttemptEnd};
use pipeline::stage::Stage;
use pipeline::stages::StageError;
use pipeline::video::FailureCause;
use pipeline::worker::{Deadlines, WorkerConfig};

use super::{World, quick, succeed, success, until};

#[tokio::test]
async fn a_panic_in_a_stage_is_another_try() {
    let mut world = World::new().await;
    world.start(WorkerConfig::default(), |attempt| async move {
        assert!(attempt.lease.attempt > 1, "the first try always breaks");
        Ok(success(attempt.lease.stage))
    });
    // The other stages panic on their first try as well, and come through on their second.
    let video = world.upload().await;
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.attempt, job.failures), ("done", 2, 1));
    assert_eq!(world.outcomes(video).await, [Some("failed".into()), Some("done".into())]);
    world.stop_workers().await;
}

#[tokio::test]
async fn the_last_failure_makes_the_job_dead_with_its_reason() {
    let mut world = World::new().await;
    let video = world.upload().await;
    world.execute("update jobs set failures = 4").await;
    world.start(WorkerConfig::default(), |_| async {
        Err(StageError::Retry { cause: FailureCause::OutputInvalid, detail: "odd\0bytes".into() })
    });
    until("failed", || async { world.video_state(video).await == "failed" }).await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.failures), ("dead", 5));
    assert_eq!(job.failure_cause.as_deref(), Some("output_invalid"));
    assert_eq!(job.last_error.as_deref(), Some("odd bytes"));
    world.stop_workers().await;
}

#[tokio::test]
async fn a_result_that_postgres_refuses_is_told_as_a_defect_and_counted() {
    let refused = || ATTEMPTS[Stage::DuplicateDetection][AttemptEnd::Refused].get();
    let before = refused();
    let mut world = World::new().await;
    world.execute("alter table videos add constraint picky check (finished_stages = 0)").await;
    world.start(WorkerConfig::default(), succeed);
    let video = world.upload().await;
    let failed = || async { world.outcomes(video).await.first() == Some(&Some("failed".into())) };
    until("it is counted as a failure", failed).await;
    assert!(world.first_job(video).await.last_error.is_some_and(|error| error.contains("picky")));
    world.execute("alter table videos drop constraint picky").await;
    assert!(refused() > before, "for the alert");
    world.execute("update jobs set run_at = now()").await;
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    world.stop_workers().await;
}

#[tokio::test]
async fn a_permanent_failure_is_dead_at_once() {
    let mut world = World::new().await;
    world.start(WorkerConfig::default(), |_| async {
        Err(StageError::Fail { cause: FailureCause::EmptyFile, detail: "zero bytes".into() })
    });
    let video = world.upload().await;
    until("failed", || async { world.video_state(video).await == "failed" }).await;
    assert_eq!(world.first_job(video).await.attempt, 1);
    world.stop_workers().await;
}

#[tokio::test]
async fn crashes_of_the_child_have_a_count_of_their_own() {
    let mut world = World::new().await;
    let video = world.upload().await;
    world.execute("update jobs set crashes = 2, failures = 3").await;
    world
        .start(WorkerConfig::default(), |_| async { Err(StageError::Crashed("signal 11".into())) });
    until("failed", || async { world.video_state(video).await == "failed" }).await;
    let job = world.first_job(video).await;
    assert_eq!((job.crashes, job.failures), (3, 3));
    assert_eq!(job.failure_cause.as_deref(), Some("media_crashed"));
    world.stop_workers().await;
}

#[tokio::test]
async fn a_child_that_was_killed_from_outside_counts_with_the_lost_workers() {
    let mut world = World::new().await;
    let video = world.upload().await;
    world.execute("update jobs set crashes = 2, failures = 4, lost_workers = 18").await;
    world.start(WorkerConfig::default(), |_| async { Err(StageError::Killed("signal 9".into())) });
    let lost = || async { world.outcomes(video).await == [Some("lost".into())] };
    until("it is counted", lost).await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.crashes, job.failures), ("pending", 2, 4));
    assert_eq!(job.lost_workers, 19);
    world.execute("update jobs set run_at = now()").await;
    until("failed", || async { world.video_state(video).await == "failed" }).await;
    let job = world.first_job(video).await;
    assert_eq!((job.lost_workers, job.failure_cause.as_deref()), (20, Some("worker_lost")));
    world.stop_workers().await;
}

#[tokio::test]
async fn an_outage_is_waited_for_and_not_counted() {
    let mut world = World::new().await;
    let video = world.upload().await;
    world.execute("update jobs set failures = 4, crashes = 2").await;
    world.start(WorkerConfig::default(), |attempt| async move {
        match attempt.lease.attempt {
            1 => Err(StageError::Outage("MinIO is away".into())),
            _ => Ok(success(attempt.lease.stage)),
        }
    });
    until("released", || async { world.outcomes(video).await == [Some("released".into())] }).await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.failures, job.crashes), ("pending", 4, 2));
    assert!(job.waits, "not before a second has passed");
    assert_eq!(job.last_error.as_deref(), Some("MinIO is away"));
    world.execute("update jobs set run_at = now()").await;
    until("done", || async { world.first_job(video).await.state == "done" }).await;
    world.stop_workers().await;
}

#[tokio::test]
async fn an_attempt_past_its_deadline_is_stopped_and_counted() {
    let mut world = World::new().await;
    let video = world.upload().await;
    world.execute("update jobs set failures = 1").await;
    let deadlines =
        Deadlines { duplicate_detection: Duration::from_millis(200), ..Deadlines::default() };
    world.start(WorkerConfig { deadlines, ..quick() }, |attempt| async move {
        attempt.cancelled.cancelled().await;
        Err(StageError::Stopped)
    });
    until("failed", || async { world.video_state(video).await == "failed" }).await;
    let job = world.first_job(video).await;
    assert_eq!(job.failure_cause.as_deref(), Some("deadline_exceeded"));
    world.stop_workers().await;
}

#[tokio::test]
async fn a_stage_that_does_not_listen_is_dropped() {
    let mut world = World::new().await;
    let video = world.upload().await;
    let deadlines =
        Deadlines { duplicate_detection: Duration::from_millis(200), ..Deadlines::default() };
    world.start(WorkerConfig { deadlines, ..quick() }, |_| std::future::pending());
    let failed = || async { world.outcomes(video).await.first() == Some(&Some("failed".into())) };
    until("the attempt ends", failed).await;
    world.hard.cancel();
    world.stop_workers().await;
}
