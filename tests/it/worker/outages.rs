//! MinIO away under load: few attempts are spent on it, none is counted, and work goes on by itself.

use std::time::{Duration, Instant};

use pipeline::stage::Stage;
use pipeline::stages::StageError;
use pipeline::storage::Storage;
use pipeline::worker::{Attempt, WorkerConfig};

use super::{Ended, World, success, until};
use crate::proxy::{Proxy, Weather};
use crate::s3_client::S3Client;
use crate::support::minio;

const KEY: &str = "raw-uploads/source.mp4";
const SLOTS: i64 = 2;

/// What every stage begins with: a look at the source.
async fn look(storage: Storage, attempt: Attempt) -> Ended {
    match storage.head(KEY).await {
        Ok(_) => Ok(success(attempt.lease.stage)),
        Err(error) => Err(StageError::Outage(error.to_string())),
    }
}

#[tokio::test]
async fn while_minio_is_away_no_attempts_are_burnt_and_afterwards_work_goes_on() {
    let minio = minio().await;
    S3Client::new(&minio.storage_config()).put(KEY, b"clip").await;
    let proxy = Proxy::cutting(&minio.endpoint, 0, 0).await;
    let mut config = minio.storage_config();
    config.endpoint = proxy.endpoint();
    let storage = Storage::new(&config).expect("settings");
    let mut world = World::new().await;
    for _ in 0..40 {
        world.upload().await;
    }
    proxy.set_weather(Weather::Down);
    let slots = Stage::ALL.map(|stage| (stage, 2)).to_vec();
    let seen = storage.clone();
    let workers = WorkerConfig { slots, ..WorkerConfig::default() };
    world.start_beside(Some(storage), workers, move |attempt| look(seen.clone(), attempt));

    let spent = || world.count("select count(*) from job_attempts");
    until("five attempts ran into it", || async { spent().await >= 5 }).await;
    let running = "select count(*) from jobs where state = 'running'";
    until("the last of them ended", || async { world.count(running).await == 0 }).await;
    let before = spent().await;
    // Long enough for a dozen more of each slot.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let after = spent().await;
    assert!(before <= 5 + 2 * SLOTS && after <= before + SLOTS, "{before}, then {after} attempts");

    proxy.set_weather(Weather::Fair);
    let begun = Instant::now();
    let done = || async { world.count("select count(*) from jobs where state = 'done'").await > 0 };
    until("work goes on", done).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    until("all are ready", || world.all_ready()).await;
    world.assert_nothing_charged().await;
    world.stop_workers().await;
}

#[tokio::test]
async fn an_outage_of_something_else_does_not_stop_the_claims() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("settings");
    let mut world = World::new().await;
    world.start_beside(Some(storage), WorkerConfig::default(), |attempt| async move {
        match attempt.lease.stage {
            // Its engine is away for the first three attempts of each job.
            Stage::SpeechToText if attempt.lease.attempt <= 3 => {
                Err(StageError::Outage("the speech server is away".into()))
            }
            stage => Ok(success(stage)),
        }
    });
    for _ in 0..4 {
        world.upload().await;
    }
    until("all are ready", || world.all_ready()).await;
    world.assert_nothing_charged().await;
    world.stop_workers().await;
}
