//! The end of a worker: what runs may end, what does not is given back uncounted.

use std::sync::Arc;
use std::time::Duration;

use pipeline::queue::{Queue, QueueConfig};
use pipeline::stage::Stage;
use pipeline::stages::StageError;
use pipeline::worker;
use pipeline::worker::WorkerConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{World, quick, succeed, success, until};
use crate::support::database;

#[tokio::test]
async fn a_soft_stop_takes_nothing_new_and_lets_running_jobs_end() {
    let mut world = World::new().await;
    let go_on = Arc::new(Notify::new());
    let awaited = Arc::clone(&go_on);
    world.start(WorkerConfig::default(), move |attempt| {
        let awaited = Arc::clone(&awaited);
        async move {
            awaited.notified().await;
            Ok(success(attempt.lease.stage))
        }
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    world.soft.cancel();
    go_on.notify_one();
    world.stop_workers().await;
    assert_eq!(world.first_job(video).await.state, "done");
    let transcode = world.job(video, Stage::Transcode).await;
    assert_eq!((transcode.state.as_str(), transcode.attempt), ("pending", 0));
}

#[tokio::test]
async fn what_does_not_end_in_the_drain_timeout_is_released_uncounted() {
    let mut world = World::new().await;
    let config = WorkerConfig { drain_timeout: Duration::from_millis(100), ..quick() };
    world.start(config, |attempt| async move {
        attempt.cancelled.cancelled().await;
        Err(StageError::Crashed("killed by the stop".into()))
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    world.stop_workers().await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.crashes, job.failures), ("pending", 0, 0));
    assert!(!job.waits, "another worker may have it at once");
    assert_eq!(world.outcomes(video).await, [Some("released".into())]);
}

#[tokio::test]
async fn a_worker_starts_while_redis_is_away_and_stops_all_the_same() {
    let database = database().await;
    let away = QueueConfig { url: "redis://127.0.0.1:9".to_owned(), prefix: "t:".to_owned() };
    let queue = Queue::new(&away).expect("settings");
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let db = database.db.clone();
    tasks.spawn(worker::run_with(quick(), db, queue, succeed, soft.clone(), hard));
    soft.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), tasks.join_all()).await;
    assert!(ended.is_ok(), "it ends");
}
