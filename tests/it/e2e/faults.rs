//! Faults on the real path: whatever is lost, the video still becomes ready, exactly once.

use std::time::Duration;

use pipeline::reconcile::ReconcileConfig;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{clients, end_of, upload, wait_for};
use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::support::{self, Daemon, TestApp, app_with};

fn some_seconds() -> std::path::PathBuf {
    clip("faults.mp4", &format!("{} {H264_AAC}", picture_and_tone("1280x720", "30", 12.0)))
}

/// One video, each job done by one committed attempt, one set of results.
async fn assert_ready_exactly_once(app: &TestApp, video: &Value) {
    assert_eq!(video["state"], "ready", "{video:#}");
    let id: Uuid = video["video_id"].as_str().expect("an id").parse().expect("a UUID");
    let count = async |sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).bind(id).fetch_one(&app.pool).await.expect("a query")
    };
    assert_eq!(count("select count(*) from videos where object_key = (select object_key from videos where id = $1)").await, 1);
    assert_eq!(count("select count(*) from jobs where video_id = $1 and state = 'done'").await, 4);
    assert_eq!(count("select count(*) from jobs where video_id = $1").await, 4);
    assert_eq!(
        count("select count(*) from job_attempts a join jobs j on j.id = a.job_id where j.video_id = $1 and a.outcome = 'done'").await,
        4
    );
    crate::hls::Published::read(&super::hls_url(video)).await.assert_sound(12.0, 0.07);
}

#[tokio::test(flavor = "multi_thread")]
async fn emptying_redis_in_mid_run_loses_nothing() {
    let app = support::app().await;
    let id = clients::announce_and_put(&app, &some_seconds()).await;
    wait_for(&app, id, "in its stages", |video| video["processing_index"] == 2).await;
    app.redis.lose_everything().await;
    // And again while the hints are being repaired, with a second upload on its way.
    let second =
        clip("faults-2.mp4", &format!("{} {H264_AAC}", picture_and_tone("640x480", "25", 3.0)));
    let second = clients::announce_and_put(&app, &second).await;
    app.redis.lose_everything().await;

    assert_ready_exactly_once(&app, &end_of(&app, id).await).await;
    assert_eq!(end_of(&app, second).await["state"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_five_times_makes_one_video() {
    let app = support::app().await;
    let video = upload(&app, &some_seconds()).await;
    let row: (String, String, String) =
        sqlx::query_as("select bucket, object_key, etag from videos where id = $1::uuid")
            .bind(video["video_id"].as_str())
            .fetch_one(&app.pool)
            .await
            .expect("the row");
    let (bucket, key, etag) = row;
    let event = json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": format!("{bucket}/{key}"),
        "Records": [{
            "eventName": "s3:ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key.replace('/', "%2F"), "size": 1, "eTag": etag}},
        }],
    });
    let url = format!("{}/webhooks/minio/upload-complete", app.url);
    for _ in 0..5 {
        let client = reqwest::Client::new();
        let answer =
            client.post(url.clone()).bearer_auth(&app.webhook_token).json(&event).send().await;
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_ready_exactly_once(&app, &end_of(&app, clients::id_of(&video)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_webhook_the_listing_finds_the_upload() {
    // Every delivery is refused for its token: to the pipeline that is no webhook at all.
    let app = app_with(|config| {
        config.webhook_token = "not the token that MinIO was given".to_owned();
        config.reconcile = ReconcileConfig {
            period: Duration::from_secs(1),
            grace: Duration::ZERO,
            ..ReconcileConfig::default()
        };
    })
    .await;
    let announced = clients::announce_and_put(&app, &some_seconds()).await;
    let foreign =
        clip("foreign.mp4", &format!("{} {H264_AAC}", picture_and_tone("320x240", "25", 2.0)));
    clients::put_with_mc(&app, &foreign, "raw-uploads/holiday/nobody announced me.mp4").await;

    assert_ready_exactly_once(&app, &end_of(&app, announced).await).await;
    let foreign = clients::video_of_key(&app, "raw-uploads/holiday/nobody announced me.mp4").await;
    assert_eq!(end_of(&app, foreign).await["state"], "ready");
}

/// The worker of an app that has none, as an operator runs it, so that it can be killed.
fn worker_of(app: &TestApp) -> Daemon {
    let mut command = Daemon::command();
    command
        .args(["serve", "--roles", "dispatch,worker", "--port", "0", "--host", "127.0.0.1"])
        .env("DATABASE_URL", &app.database.url)
        .env("REDIS_URL", &app.redis.url)
        .env("REDIS_PREFIX", &app.redis.prefix)
        .env("MINIO_ENDPOINT", app.minio.endpoint.as_str())
        .env("MINIO_ACCESS_KEY", &app.minio.access_key)
        .env("MINIO_SECRET_KEY", &app.minio.secret_key)
        .env("MINIO_BUCKET", &app.minio.bucket)
        .env("MINIO_WEBHOOK_TOKEN", &app.webhook_token);
    Daemon::start(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_mid_transcode_and_the_next_process_finishes_it() {
    let app = app_with(|config| {
        config.roles.stages.clear();
        config.worker.slots.clear();
    })
    .await;
    let daemon = worker_of(&app);
    let id = clients::announce_and_put(&app, &some_seconds()).await;
    wait_for(&app, id, "playable and still in transcode", |video| {
        video["playable_at"].is_string() && video["state"] == "processing"
    })
    .await;
    daemon.signal(Signal::KILL);
    let _next = worker_of(&app);

    let video = end_of(&app, id).await;
    assert_ready_exactly_once(&app, &video).await;
    assert_eq!(super::stage(&video, "transcode")["attempt"], 2, "{video:#}");
    let charged: i32 =
        sqlx::query_scalar("select sum(failures + crashes)::int from jobs where video_id = $1")
            .bind(id)
            .fetch_one(&app.pool)
            .await
            .expect("a query");
    assert_eq!(charged, 0, "a lost worker is no failure of the file");
}
