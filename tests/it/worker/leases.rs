//! Who may commit: only the attempt that the row names, and it does so even after a hitch of Postgres.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipeline::db::Db;
use pipeline::queue::Queue;
use pipeline::stage::Stage;
use pipeline::stages::StageError;
use pipeline::video::FailureCause;
use pipeline::worker;
use pipeline::worker::WorkerConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{World, quick, succeed, success, until};

#[tokio::test]
async fn a_worker_that_lost_its_lease_commits_nothing() {
    let mut world = World::new().await;
    let told = Arc::new(AtomicI32::new(0));
    let heard = Arc::clone(&told);
    world.start(quick(), move |attempt| {
        let heard = Arc::clone(&heard);
        async move {
            if attempt.lease.attempt == 1 && attempt.lease.stage == Stage::DuplicateDetection {
                attempt.cancelled.cancelled().await;
                heard.fetch_add(1, Ordering::SeqCst);
                // A failure, and for good, if anybody believed it.
                return Err(StageError::Fail {
                    cause: FailureCause::Corrupt,
                    detail: "from a lost attempt".into(),
                });
            }
            Ok(success(attempt.lease.stage))
        }
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    // As if this worker had been frozen: the database's clock says that its lease is over. Not in one go, since a
    // heartbeat that comes before the sweep would renew it.
    let expire =
        "update jobs set lease_until = now() - interval '1 second' where state = 'running'";
    while world.outcomes(video).await[0].is_none() {
        world.execute(expire).await;
        world.database.db.sweep(10).await.expect("swept");
    }
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    assert_eq!(told.load(Ordering::SeqCst), 1, "it was told");
    assert_eq!(world.outcomes(video).await, [Some("lost".into()), Some("done".into())]);
    let job = world.first_job(video).await;
    assert_eq!((job.failures, job.lost_workers, job.attempt), (0, 1, 2));
    world.stop_workers().await;
}

#[tokio::test]
async fn an_attempt_whose_claim_was_answered_too_late_never_begins() {
    let mut world = World::new().await;
    let video = world.upload().await;
    until("it is in Redis", || async { !world.is_quiet().await }).await;
    // Whoever claims has to wait for this, while the lease runs from when the claim was sent.
    let mut hitch = world.database.pool().acquire().await.expect("a connection");
    let lock = "begin; lock table job_attempts in share mode";
    sqlx::raw_sql(lock).execute(&mut *hitch).await.expect("locked");
    let began = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&began);
    let lease = quick().lease;
    world.start(quick(), move |attempt| {
        seen.lock().expect("no panic").push((attempt.lease.stage, attempt.lease.attempt));
        succeed(attempt)
    });
    let waits = "select count(*) from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'
                    and clock_timestamp() - query_start > interval '1.7 seconds'";
    assert!(lease * 4 / 5 < Duration::from_millis(1_700) && Duration::from_millis(1_700) < lease);
    until("the claim took most of its lease", || async { world.count(waits).await > 0 }).await;
    sqlx::raw_sql("rollback").execute(&mut *hitch).await.expect("unlocked");
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    let began = began.lock().expect("no panic").clone();
    let first = began.iter().find(|(stage, _)| *stage == Stage::DuplicateDetection);
    assert!(first.is_some_and(|(_, attempt)| *attempt > 1), "{began:?}");
    world.stop_workers().await;
}

#[tokio::test]
async fn the_result_of_a_lost_attempt_does_not_count() {
    let mut world = World::new().await;
    let go_on = Arc::new(Notify::new());
    let awaited = Arc::clone(&go_on);
    world.start(quick(), move |attempt| {
        let awaited = Arc::clone(&awaited);
        async move {
            if attempt.lease.attempt == 1 {
                // Deaf to its token, like a computation without an end in sight.
                awaited.notified().await;
            }
            Ok(success(attempt.lease.stage))
        }
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    // The job is gone for good, so nothing else can finish it.
    world.execute("update jobs set state = 'cancelled', worker = null, lease_until = null").await;
    go_on.notify_one();
    until("redis is quiet", || world.is_quiet()).await;
    assert_eq!(world.first_job(video).await.state, "cancelled");
    assert_eq!(world.outcomes(video).await, [None]);
    world.stop_workers().await;
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_are_done_by_another() {
    let mut world = World::new().await;
    let video = world.upload().await;
    let (db, queue) = (world.database.url.clone(), world.redis.queue_config());
    // A runtime that ends with all its tasks, in the middle of their work: what kill -9 leaves.
    let running = Arc::new(Notify::new());
    let begun = Arc::clone(&running);
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let db = Db::connect(&db, 5).expect("a URL");
            let queue = Queue::new(&queue).expect("settings");
            let mut tasks = JoinSet::new();
            let started = Arc::clone(&begun);
            let run_stage = move |_| {
                started.notify_one();
                std::future::pending()
            };
            let never = CancellationToken::new();
            tasks.spawn(worker::run_with(quick(), db, queue, run_stage, never.clone(), never));
            begun.notified().await;
        });
        runtime.shutdown_background();
    });
    until("its job runs", || async { world.first_job(video).await.state == "running" }).await;
    world.start(quick(), succeed);
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    assert_eq!(world.outcomes(video).await, [Some("lost".into()), Some("done".into())]);
    assert_eq!(world.first_job(video).await.lost_workers, 1);
    doomed.join().expect("the doomed worker ended");
    world.stop_workers().await;
}

#[tokio::test]
async fn without_heartbeats_an_attempt_is_stopped_before_its_lease_ends() {
    let mut world = World::new().await;
    let stopped = Arc::new(Notify::new());
    let heard = Arc::clone(&stopped);
    world.start(quick(), move |attempt| {
        let heard = Arc::clone(&heard);
        async move {
            attempt.cancelled.cancelled().await;
            heard.notify_one();
            Err(StageError::Stopped)
        }
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    // Every heartbeat now waits for this lock, and fails.
    let mut locked = world.database.pool().acquire().await.expect("a connection");
    sqlx::raw_sql("begin; lock table jobs in exclusive mode")
        .execute(&mut *locked)
        .await
        .expect("locked");
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(10), stopped.notified()).await.expect("it is stopped");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    sqlx::raw_sql("rollback").execute(&mut *locked).await.expect("unlocked");
    drop(locked);
    world.hard.cancel();
    world.stop_workers().await;
}

#[tokio::test]
async fn a_commit_waits_for_a_postgres_that_is_held_up() {
    let mut world = World::new().await;
    let (running, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, awaited) = (Arc::clone(&running), Arc::clone(&go_on));
    world.start(WorkerConfig::default(), move |attempt| {
        let (begun, awaited) = (Arc::clone(&begun), Arc::clone(&awaited));
        async move {
            if attempt.lease.stage == Stage::DuplicateDetection {
                begun.notify_one();
                awaited.notified().await;
            }
            Ok(success(attempt.lease.stage))
        }
    });
    let video = world.upload().await;
    running.notified().await;
    let mut locked = world.database.pool().acquire().await.expect("a connection");
    sqlx::raw_sql("begin; lock table jobs in exclusive mode")
        .execute(&mut *locked)
        .await
        .expect("locked");
    go_on.notify_one();
    // Longer than a statement waits for a lock, shorter than the lease.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    sqlx::raw_sql("rollback").execute(&mut *locked).await.expect("unlocked");
    drop(locked);
    until("ready", || async { world.video_state(video).await == "ready" }).await;
    assert_eq!(world.outcomes(video).await, [Some("done".into())], "its work was not thrown away");
    world.stop_workers().await;
}
