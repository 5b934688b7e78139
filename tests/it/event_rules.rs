//! What the daemon does about MinIO's event rules when it starts, and what MinIO's own figures say. On a real MinIO.

use pipeline::storage::{DURABLE_TARGET, IMMEDIATE_TARGET, SetupState, Storage, webhook_targets};

use crate::s3_client::S3Client;
use crate::support::{Daemon, TestMinio, database, minio, minio_without_targets, redis};

/// A daemon that only dispatches, on a database of its own.
async fn start(minio: &TestMinio) -> (Daemon, impl Sized + use<>) {
    let (database, redis) = tokio::join!(database(), redis());
    let mut command = Daemon::command();
    command
        .arg("serve")
        .env("DATABASE_URL", &database.url)
        .env("REDIS_URL", &redis.url)
        .env("REDIS_PREFIX", &redis.prefix)
        .env("MINIO_ENDPOINT", minio.endpoint.as_str())
        .env("MINIO_ACCESS_KEY", &minio.access_key)
        .env("MINIO_SECRET_KEY", &minio.secret_key)
        .env("MINIO_WEBHOOK_URL", "http://clipstream:8000/webhooks/minio/upload-complete")
        .env("MINIO_WEBHOOK_TOKEN", "a-token-of-this-test")
        .env("CLIPSTREAM_ROLES", "dispatch")
        .env("API_HOST", "127.0.0.1")
        .env("API_PORT", "0");
    (Daemon::start(command), database)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_gone_are_written_again_at_the_start_and_told() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("settings");
    let s3 = S3Client::new(&minio.storage_config());
    s3.put_config("notification", "<NotificationConfiguration></NotificationConfiguration>").await;
    let (mut daemon, _database) = start(&minio).await;
    daemon.until_output("the event rule was gone or changed");
    for (target, state) in storage.inspect_notifications(&webhook_targets()).await.expect("rules") {
        assert_eq!(state, SetupState::Right, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_minio_does_not_have_is_named_with_its_lines() {
    let minio = minio_without_targets().await;
    let (mut daemon, _database) = start(&minio).await;
    daemon.until_output("MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_CLIPSTREAM=");
    let output = daemon.output();
    for line in [
        "MINIO_NOTIFY_WEBHOOK_ENABLE_CLIPSTREAMNOW=on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_CLIPSTREAM=http://clipstream:8000/webhooks/minio/upload-complete",
    ] {
        assert!(output.contains(line), "{line} is missing: {output}");
    }
    assert!(!output.contains("a-token-of-this-test"), "it logged its token");
}

#[tokio::test]
async fn minio_tells_what_it_could_not_deliver_and_what_waits() {
    // Nobody listens where its events go.
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("settings");
    storage.ensure_notifications(&webhook_targets()).await.expect("rules");
    let s3 = S3Client::new(&minio.storage_config());
    s3.put("raw-uploads/a.mp4", b"clip").await;
    let begun = std::time::Instant::now();
    loop {
        let figures = storage.event_figures().await.expect("figures");
        let lost = figures.targets.get(IMMEDIATE_TARGET).is_some_and(|target| target.failed > 0);
        let queued = figures.targets.get(DURABLE_TARGET).is_some_and(|target| target.queued == 1);
        if lost && queued {
            break;
        }
        // MinIO counts anew every ten seconds.
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{figures:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let mut config = minio.storage_config();
    config.secret_key = "not the secret".to_owned();
    let stranger = Storage::new(&config).expect("settings");
    let refused = stranger.event_figures().await.expect_err("another key");
    assert!(refused.to_string().contains("admin:Prometheus"), "{refused}");
}
