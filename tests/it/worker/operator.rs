//! The operator's hand on a running worker: cancel stops an attempt, a pause keeps the next one away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::db::Ordered;
use pipeline::stage::Stage;
use pipeline::stages::StageError;
use pipeline::worker::WorkerConfig;
use tokio::sync::Notify;

use super::{World, quick, succeed, until};

const PROMISE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_cancelled_attempt_is_stopped_within_five_seconds() {
    let mut world = World::new().await;
    let stopped = Arc::new(Notify::new());
    let heard = Arc::clone(&stopped);
    // The default lease: its heartbeats alone would come too late.
    world.start(WorkerConfig::default(), move |attempt| {
        let heard = Arc::clone(&heard);
        async move {
            attempt.cancelled.cancelled().await;
            heard.notify_one();
            Err(StageError::Stopped)
        }
    });
    let video = world.upload().await;
    until("it runs", || async { world.first_job(video).await.state == "running" }).await;
    let ordered = world.database.db.cancel(video, Stage::DuplicateDetection).await;
    assert!(matches!(ordered, Ok(Ordered::Done(_))), "{ordered:?}");
    let begun = Instant::now();
    tokio::time::timeout(PROMISE, stopped.notified()).await.expect("it is stopped");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("redis is quiet", || world.is_quiet()).await;
    let job = world.first_job(video).await;
    assert_eq!((job.state.as_str(), job.failures, job.attempt), ("cancelled", 0, 1));
    assert_eq!(world.outcomes(video).await, [Some("cancelled".into())]);
    assert_eq!(world.video_state(video).await, "failed");
    world.stop_workers().await;
}

#[tokio::test]
async fn a_paused_queue_stays_paused_without_redis_and_goes_on_when_resumed() {
    let mut world = World::new().await;
    let others = [Stage::SpeechToText, Stage::Embeddings];
    world.database.db.pause(Stage::Transcode, Some("a test")).await.expect("paused");
    world.start(quick(), succeed);
    for _ in 0..2 {
        let video = world.upload().await;
        // The other stages are done: every loop has come by, before and after Redis forgot all.
        for stage in others {
            until("it is done", || async {
                world.first_job(video).await.state == "done"
                    && world.job(video, stage).await.state == "done"
            })
            .await;
        }
        assert_eq!(world.job(video, Stage::Transcode).await.attempt, 0);
        assert_eq!(world.video_state(video).await, "processing");
        world.redis.lose_everything().await;
    }
    assert!(world.database.db.resume(Stage::Transcode).await.expect("resumed"));
    let processing = "select count(*) from videos where state <> 'ready'";
    until("all are ready", || async {
        let open: i64 =
            sqlx::query_scalar(processing).fetch_one(world.database.pool()).await.expect("a count");
        open == 0
    })
    .await;
    world.stop_workers().await;
}
