//! What becomes of a video whose source goes away or changes under it: it fails and says so, and a source that took its
//! place is a video of its own.

use std::time::{Duration, Instant};

use pipeline::stage::Stage;
use serde_json::Value;
use uuid::Uuid;

use super::{PATIENCE, clients, end_of, stage, wait_for};
use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::s3_client::S3Client;
use crate::support::{self, TestApp};

fn clip_of(seconds: u8) -> std::path::PathBuf {
    let recipe = picture_and_tone("320x180", "15", f64::from(seconds));
    clip(&format!("source-{seconds}.mp4"), &format!("{recipe} {H264_AAC}"))
}

/// A video whose other stages wait, and the key of its source.
async fn detected(app: &TestApp, seconds: u8) -> (Uuid, String) {
    let id = clients::announce_and_put(app, &clip_of(seconds)).await;
    wait_for(app, id, "detected", |video| {
        video["state"] == "processing" && stage(video, "duplicate_detection")["state"] == "done"
    })
    .await;
    let key = sqlx::query_scalar("select object_key from videos where id = $1").bind(id);
    (id, key.fetch_one(&app.pool).await.expect("a key"))
}

/// The video that took a key over.
async fn successor(app: &TestApp, key: &str, of: Uuid) -> Uuid {
    let begun = Instant::now();
    loop {
        let found = sqlx::query_scalar("select id from videos where object_key = $1 and id <> $2")
            .bind(key)
            .bind(of)
            .fetch_optional(&app.pool)
            .await
            .expect("a query");
        if let Some(id) = found {
            return id;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing took over {key}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assert_source_missing(video: &Value) {
    assert_eq!(video["state"], "failed", "{video:#}");
    assert_eq!(video["failure"]["cause"], "source_missing", "{video:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_goes_away_or_is_overwritten_fails_its_video_and_no_other() {
    let app = support::app().await;
    let client = S3Client::new(&app.minio.storage_config());
    let rest = [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings];
    for stage in rest {
        app.db.pause(stage, Some("the sources change first")).await.expect("paused");
    }
    let (deleted, deleted_key) = detected(&app, 2).await;
    let (overwritten, key) = detected(&app, 3).await;
    client.delete(&deleted_key).await;
    client.put(&key, &std::fs::read(clip_of(4)).expect("the clip")).await;
    let successor = successor(&app, &key, overwritten).await;
    for stage in rest {
        assert!(app.db.resume(stage).await.expect("resumed"));
    }

    assert_source_missing(&end_of(&app, deleted).await);
    assert_source_missing(&end_of(&app, overwritten).await);
    let new = end_of(&app, successor).await;
    assert_eq!(new["state"], "ready", "{new:#}");
    crate::hls::Published::read(&super::hls_url(&new)).await.assert_sound(4.0, 0.07);
}
