//! What gc clears away and what it must never touch, on a real MinIO.

use std::time::{Duration, Instant};

use pipeline::db::Strike;
use pipeline::gc::{self, GcConfig};
use pipeline::job::Lease;
use pipeline::stage::Stage;
use pipeline::storage::{Storage, StorageError};
use pipeline::video::{FailureCause, VideoId};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::db_actors::{claimed, complete, detected, facts, let_time_pass};
use crate::picky_proxy::PickyProxy;
use crate::s3_client::S3Client;
use crate::support::{TestDatabase, TestMinio, database, minio};

struct World {
    database: TestDatabase,
    storage: Storage,
    client: S3Client,
    minio: TestMinio,
}

impl World {
    async fn new() -> Self {
        let minio = minio().await;
        let config = minio.storage_config();
        Self {
            database: database().await,
            storage: Storage::new(&config).expect("settings"),
            client: S3Client::new(&config),
            minio,
        }
    }

    /// Announces objects and PUTs them, as a stage does.
    async fn write(&self, lease: &Lease, objects: &[(String, &str)]) {
        self.announce(lease, &objects.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
            .await;
        for (key, body) in objects {
            self.client.put(key, body.as_bytes()).await;
        }
    }

    async fn announce(&self, lease: &Lease, keys: &[&str]) {
        let objects: Vec<(String, u64)> = keys.iter().map(|key| ((*key).to_owned(), 1)).collect();
        self.database.db.announce(lease, &objects).await.expect("announced");
    }

    /// A transcode that crashed after it had published some, and a second try that holds its lease. The 720p of the first
    /// reaches further than that of the second will.
    async fn tried_twice(&self) -> (VideoId, Lease) {
        let (db, pool) = (&self.database.db, self.database.pool());
        let video = detected(db, pool).await;
        let at = |rest: &str| format!("processed-videos/{video}/{rest}");
        let first = claimed(db, pool, video, Stage::Transcode).await;
        let poster = format!("thumbnails/{video}_processing.jpg");
        let written = [
            (poster, "picture"),
            (at("segments/1/480p/00001.m4s"), "lost"),
            (at("segments/1/720p/00001.m4s"), "named"),
            (at("720p.m3u8"), "#EXTM3U\n#EXTINF:4,\nsegments/1/720p/00001.m4s\n"),
        ];
        self.write(&first, &written).await;
        // It died between the row and the PUT.
        let never = [at("segments/1/480p/00002.m4s"), format!("thumbnails/{video}.jpg")];
        self.announce(&first, &[&never[0], &never[1]]).await;
        let crash = FailureCause::MediaCrashed;
        db.retry(&first, crash, "died", Strike::Crash, 3, Duration::ZERO).await.expect("again");
        let_time_pass(pool).await;
        let second = claimed(db, pool, video, Stage::Transcode).await;
        let written = [
            (at("segments/2/480p/00001.m4s"), "won"),
            (at("480p.m3u8"), "#EXTM3U\n#EXTINF:4,\nsegments/2/480p/00001.m4s\n"),
            (at("master.m3u8"), "#EXTM3U\n480p.m3u8\n720p.m3u8\n"),
        ];
        self.write(&second, &written).await;
        (video, second)
    }

    /// The second try ends well, and the video with it.
    async fn finish(&self, transcode: &Lease) {
        let (db, pool) = (&self.database.db, self.database.pool());
        let playback = json!({"attempt": transcode.attempt});
        db.complete_transcode(transcode, [7; 32], &facts(), &playback).await.expect("done");
        for stage in [Stage::SpeechToText, Stage::Embeddings] {
            complete(db, &claimed(db, pool, transcode.video, stage).await).await;
        }
    }

    async fn age(&self, video: VideoId) {
        sqlx::query("update jobs set finished_at = now() - interval '25 hours' where video_id = $1 and finished_at is not null")
            .bind(video.0)
            .execute(self.database.pool())
            .await
            .expect("aged");
        sqlx::query(
            "update objects set created_at = now() - interval '25 hours' where video_id = $1",
        )
        .bind(video.0)
        .execute(self.database.pool())
        .await
        .expect("aged");
    }

    /// The keys of a video: in the bucket, and in the table.
    async fn keys(&self, video: VideoId) -> (Vec<String>, Vec<String>) {
        let mut there = Vec::new();
        for prefix in ["processed-videos/", "thumbnails/"] {
            let prefix = format!("{prefix}{video}");
            let listed = self.storage.list(&prefix, "", 1_000).await.expect("listed");
            there.extend(listed.into_iter().map(|object| object.key));
        }
        let rows = sqlx::query_scalar("select key from objects where video_id = $1 order by key")
            .bind(video.0)
            .fetch_all(self.database.pool())
            .await
            .expect("rows");
        (there, rows)
    }

    async fn collected(&self, video: VideoId) -> bool {
        sqlx::query_scalar(
            "select collected_at is not null from jobs where video_id = $1 and stage = 'transcode'",
        )
        .bind(video.0)
        .fetch_one(self.database.pool())
        .await
        .expect("a job")
    }

    /// Two processes, round after round, until something is so.
    async fn collect_until<F: Future<Output = bool>>(&self, what: &str, so: impl Fn() -> F) {
        let stop = CancellationToken::new();
        let config = GcConfig { period: Duration::from_millis(20), ..GcConfig::default() };
        let mut rounds = JoinSet::new();
        for _ in 0..2 {
            let (db, storage) = (self.database.db.clone(), self.storage.clone());
            rounds.spawn(gc::run(config.clone(), db, storage, stop.clone()));
        }
        let begun = Instant::now();
        while !so().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: it never was so");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
        rounds.join_all().await;
    }
}

#[tokio::test]
async fn what_did_not_win_goes_and_what_is_named_or_open_or_young_stays() {
    let world = World::new().await;
    let (ended, transcode) = world.tried_twice().await;
    world.finish(&transcode).await;
    world.age(ended).await;
    let (open, _running) = world.tried_twice().await;
    world.age(open).await;
    let (young, transcode) = world.tried_twice().await;
    world.finish(&transcode).await;
    let untouched = world.keys(open).await;
    let (young_there, young_rows) = world.keys(young).await;

    world.collect_until("collected", || world.collected(ended)).await;

    let kept: Vec<String> = [
        "480p.m3u8",
        "720p.m3u8",
        "master.m3u8",
        "segments/1/720p/00001.m4s",
        "segments/2/480p/00001.m4s",
    ]
    .map(|rest| format!("processed-videos/{ended}/{rest}"))
    .into();
    assert_eq!(world.keys(ended).await, (kept.clone(), kept));
    assert_eq!(world.keys(open).await, untouched, "its transcode runs");
    // Its video has ended, so only the thumbnail that says otherwise goes.
    let poster = format!("thumbnails/{young}_processing.jpg");
    let without = |keys: Vec<String>| keys.into_iter().filter(|key| *key != poster).collect();
    let expected: (Vec<String>, Vec<String>) = (without(young_there), without(young_rows));
    assert_eq!(world.keys(young).await, expected, "it is young");
}

#[tokio::test]
async fn an_object_that_minio_refuses_to_delete_does_not_keep_the_others_from_being_collected() {
    let world = World::new().await;
    let (refused, transcode) = world.tried_twice().await;
    world.finish(&transcode).await;
    world.age(refused).await;
    let (other, transcode) = world.tried_twice().await;
    world.finish(&transcode).await;
    world.age(other).await;
    // The oldest comes first.
    sqlx::query(
        "update jobs set finished_at = finished_at - interval '1 hour' where video_id = $1",
    )
    .bind(refused.0)
    .execute(world.database.pool())
    .await
    .expect("older");
    let endpoint = &world.minio.endpoint;
    let text = refused.to_string();
    let proxy = PickyProxy::start(endpoint, "DELETE", &text, "403 Forbidden").await;
    let mut config = world.minio.storage_config();
    config.endpoint = proxy.endpoint();
    let world = World { storage: Storage::new(&config).expect("settings"), ..world };
    let (before, _) = world.keys(refused).await;

    world.collect_until("the other is collected", || world.collected(other)).await;

    assert!(!world.collected(refused).await, "there is something left");
    let (there, rows) = world.keys(refused).await;
    assert_eq!(there, before);
    let loser = format!("processed-videos/{refused}/segments/1/480p/00001.m4s");
    assert!(rows.contains(&loser), "a row goes after its object");
}

#[tokio::test]
async fn of_a_failed_video_that_published_nothing_all_segments_go() {
    let world = World::new().await;
    let (video, transcode) = world.tried_twice().await;
    for key in ["480p.m3u8", "720p.m3u8", "master.m3u8"] {
        world.client.delete(&format!("processed-videos/{video}/{key}")).await;
    }
    let corrupt = FailureCause::Corrupt;
    world.database.db.fail(&transcode, corrupt, "bad byte").await.expect("failed");
    world.age(video).await;
    world.collect_until("collected", || world.collected(video)).await;
    assert_eq!(world.keys(video).await, (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn the_winner_stays_even_if_its_playlists_are_gone() {
    let world = World::new().await;
    let (video, transcode) = world.tried_twice().await;
    world.finish(&transcode).await;
    for key in ["480p.m3u8", "720p.m3u8", "master.m3u8"] {
        world.client.delete(&format!("processed-videos/{video}/{key}")).await;
    }
    world.age(video).await;
    world.collect_until("collected", || world.collected(video)).await;
    let winner = vec![format!("processed-videos/{video}/segments/2/480p/00001.m4s")];
    assert_eq!(world.keys(video).await, (winner.clone(), winner));
}

#[tokio::test]
async fn no_source_can_be_deleted_as_a_result() {
    let world = World::new().await;
    world.client.put("raw-uploads/a.mp4", b"clip").await;
    let refused = world.storage.delete_result("raw-uploads/a.mp4").await.expect_err("a source");
    assert!(matches!(refused, StorageError::Refused(_)), "{refused}");
    world.storage.head("raw-uploads/a.mp4").await.expect("it is there");
}
