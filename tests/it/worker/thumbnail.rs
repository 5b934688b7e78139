//! The thumbnail that says "processing", on a real MinIO: it goes with the commit that ends the transcode, and with no other.

use std::sync::Arc;

use pipeline::stage::Stage;
use pipeline::storage::{Precondition, Storage, StorageKey};
use pipeline::worker::WorkerConfig;
use tokio::sync::Notify;

use super::{World, success, until};
use crate::support::minio;

#[tokio::test]
async fn only_the_attempt_whose_commit_counts_removes_it() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("settings");
    let (go_on, running) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut world = World::new().await;
    let (awaited, begun) = (Arc::clone(&go_on), Arc::clone(&running));
    world.start_beside(Some(storage.clone()), WorkerConfig::default(), move |attempt| {
        let (awaited, begun) = (Arc::clone(&awaited), Arc::clone(&begun));
        async move {
            if attempt.lease.stage == Stage::Transcode {
                begun.notify_one();
                // Deaf to its token, like a computation without an end in sight.
                awaited.notified().await;
            }
            Ok(success(attempt.lease.stage))
        }
    });
    let video = world.upload().await;
    let key = StorageKey::ProcessingPoster { video };
    let there = || async { storage.head(&key.to_string()).await.is_ok() };
    storage.put(&key, "picture".into(), &Precondition::None).await.expect("put");
    running.notified().await;
    // Its lease is lost, and another attempt shows its own by now.
    world.execute("update jobs set attempt = attempt + 1 where stage = 'transcode'").await;
    go_on.notify_one();
    let left =
        || async { world.queue.contents(Stage::Transcode).await.expect("contents").is_empty() };
    until("the first attempt has ended", left).await;
    assert_eq!(world.job(video, Stage::Transcode).await.state, "running");
    assert!(there().await, "it is the other attempt's");

    world
        .execute(
            "update jobs set state = 'pending', run_at = now(), worker = null, lease_until = null,
                    deadline_at = null, dispatched_at = null where stage = 'transcode'",
        )
        .await;
    running.notified().await;
    go_on.notify_one();
    until("it is gone", || async { !there().await }).await;
    until("ready", || world.all_ready()).await;
    world.stop_workers().await;
}
