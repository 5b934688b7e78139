//! A video on its way: each stage once, its reports committed in their order, also when Redis is emptied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipeline::stage::Stage;
use pipeline::stages::{Report, StageError};
use pipeline::storage::StorageKey;
use pipeline::video::SizeClaim;
use pipeline::worker::WorkerConfig;
use tokio::sync::oneshot;

use super::{World, succeed, success, until};

#[tokio::test]
async fn a_video_goes_through_all_stages_once_and_leaves_nothing_in_redis() {
    let mut world = World::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    world.start(WorkerConfig::default(), move |attempt| {
        counted.fetch_add(1, Ordering::SeqCst);
        succeed(attempt)
    });
    let mut videos = Vec::new();
    for _ in 0..10 {
        videos.push(world.upload().await);
    }
    for &video in &videos {
        until("ready", || async { world.video_state(video).await == "ready" }).await;
    }
    until("redis is quiet", || world.is_quiet()).await;
    assert_eq!(runs.load(Ordering::SeqCst), 40);
    let attempts: Vec<i32> = sqlx::query_scalar("select distinct attempt from jobs")
        .fetch_all(world.database.pool())
        .await
        .expect("attempts");
    assert_eq!(attempts, [1]);
    world.stop_workers().await;
}

#[tokio::test]
async fn what_a_stage_reports_is_committed_before_it_goes_on() {
    let mut world = World::new().await;
    world.start(WorkerConfig::default(), |attempt| async move {
        if attempt.lease.stage == Stage::DuplicateDetection {
            let (reply, answer) = oneshot::channel();
            let report = Report::ClaimSize { size_bytes: 4, reply };
            attempt.reports.send(report).await.expect("the worker listens");
            let claim = answer.await.expect("an answer")?;
            assert!(matches!(claim, SizeClaim::First), "{claim:?}");
        }
        if attempt.lease.stage == Stage::Transcode {
            attempt.reports.send(Report::Progress(0.5)).await.expect("the worker listens");
            let video = attempt.lease.video;
            let (reply, answer) = oneshot::channel();
            let poster = StorageKey::Poster { video };
            let report = Report::Writing(vec![(poster, 99)], reply);
            attempt.reports.send(report).await.expect("the worker listens");
            answer.await.expect("an answer")?;
            let (reply, answer) = oneshot::channel();
            attempt.reports.send(Report::Playable(reply)).await.expect("the worker listens");
            answer.await.expect("an answer")?;
            attempt.cancelled.cancelled().await;
            return Err(StageError::Stopped);
        }
        Ok(success(attempt.lease.stage))
    });
    let video = world.upload().await;
    let playable = || async {
        sqlx::query_scalar("select playable_at is not null from videos where id = $1")
            .bind(video.0)
            .fetch_one(world.database.pool())
            .await
            .expect("an answer")
    };
    until("playable while it runs", playable).await;
    let (key, size, attempt): (String, i64, i32) =
        sqlx::query_as("select key, size_bytes, attempt from objects")
            .fetch_one(world.database.pool())
            .await
            .expect("one object");
    assert_eq!((key, size, attempt), (format!("thumbnails/{video}.jpg"), 99, 1));
    let progress: Option<f32> =
        sqlx::query_scalar("select progress from jobs where stage = 'transcode'")
            .fetch_one(world.database.pool())
            .await
            .expect("a job");
    assert_eq!(progress, Some(0.5));
    world.hard.cancel();
    world.stop_workers().await;
    let job = world.job(video, Stage::Transcode).await;
    assert_eq!((job.state.as_str(), job.failures), ("pending", 0), "released uncounted");
}

#[tokio::test]
async fn emptying_redis_in_the_middle_loses_and_doubles_nothing() {
    let mut world = World::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let slots = Stage::ALL.map(|stage| (stage, 4)).to_vec();
    world.start(WorkerConfig { slots, ..WorkerConfig::default() }, move |attempt| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(success(attempt.lease.stage))
        }
    });
    for _ in 0..30 {
        world.upload().await;
    }
    let client = redis::Client::open(world.redis.url.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}*", world.redis.prefix))
            .query_async(&mut connection)
            .await
            .expect("keys");
        if !keys.is_empty() {
            let () = redis::cmd("DEL").arg(keys).query_async(&mut connection).await.expect("gone");
        }
    }
    let all_ready = || async {
        let ready: i64 = sqlx::query_scalar("select count(*) from videos where state = 'ready'")
            .fetch_one(world.database.pool())
            .await
            .expect("a count");
        ready == 30
    };
    until("all are ready", all_ready).await;
    assert_eq!(runs.load(Ordering::SeqCst), 120, "each stage of each video ran once");
    world.stop_workers().await;
}
