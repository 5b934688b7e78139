//! What the tests of the database are told with: uploads that arrive, workers that claim, and looks at the rows.

use std::time::Duration;

use pipeline::db::{Announcer, Commit, Db};
use pipeline::event::CreatedObject;
use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::{MediaFacts, VideoId};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) const LEASE: Duration = Duration::from_secs(15);
pub(crate) const DEADLINE: Duration = Duration::from_mins(10);

/// An object as an event names it.
pub(crate) fn object(key: &str, etag: &str) -> CreatedObject {
    CreatedObject {
        bucket: "clipstream".to_owned(),
        key: key.to_owned(),
        etag: Some(etag.to_owned()),
        version_id: None,
        size_bytes: 1_000,
        content_type: Some("video/mp4".to_owned()),
        sequencer: Some("1879F0A1B2C3D4E5".to_owned()),
    }
}

/// A fresh object that nobody announced, accepted.
pub(crate) async fn arrived(db: &Db) -> VideoId {
    let key = format!("raw-uploads/{}.mp4", Uuid::now_v7());
    let accepted =
        db.accept_object(&object(&key, "e"), Announcer::Webhook).await.expect("accepted");
    assert!(accepted.created);
    accepted.video
}

/// The job of a video's stage.
pub(crate) async fn job_of(pool: &PgPool, video: VideoId, stage: Stage) -> JobId {
    sqlx::query_scalar("select id from jobs where video_id = $1 and stage = $2")
        .bind(video.0)
        .bind(stage.as_str())
        .fetch_one(pool)
        .await
        .map(JobId)
        .expect("the job")
}

/// A claim by a worker of its own.
pub(crate) async fn claimed(db: &Db, pool: &PgPool, video: VideoId, stage: Stage) -> Lease {
    let job = job_of(pool, video, stage).await;
    let claim = db.claim(job, WorkerId::new(), LEASE, DEADLINE).await.expect("an answer");
    claim.expect("a pending job that is due").lease
}

/// A video whose duplicate detection is done: its other three stages wait.
pub(crate) async fn detected(db: &Db, pool: &PgPool) -> VideoId {
    let video = arrived(db).await;
    let lease = claimed(db, pool, video, Stage::DuplicateDetection).await;
    assert_eq!(db.complete_original(&lease, None).await.expect("an answer"), Commit::Applied);
    video
}

/// Commits a stage as done, with plain results.
pub(crate) async fn complete(db: &Db, lease: &Lease) -> Commit {
    let done = match lease.stage {
        Stage::DuplicateDetection => db.complete_original(lease, None).await,
        Stage::Transcode => {
            db.complete_transcode(lease, [7; 32], &facts(), &json!({"renditions": []})).await
        }
        Stage::SpeechToText => db.complete_speech(lease, &json!({"status": "no_audio"})).await,
        Stage::Embeddings => {
            let vector = Some((0.5, [1_i8, -2, 127, -128].as_slice()));
            db.complete_embeddings(lease, "builtin", "look-1", vector, &json!({})).await
        }
    };
    done.expect("an answer")
}

/// A video through all its stages.
pub(crate) async fn ready(db: &Db, pool: &PgPool) -> VideoId {
    let video = detected(db, pool).await;
    for stage in [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings] {
        let lease = claimed(db, pool, video, stage).await;
        assert_eq!(complete(db, &lease).await, Commit::Applied);
    }
    assert_eq!(state(pool, video).await, "ready");
    video
}

pub(crate) fn facts() -> MediaFacts {
    MediaFacts { container: "mp4".to_owned(), duration_ms: 1_000, video: None, audio: None }
}

/// A video's state.
pub(crate) async fn state(pool: &PgPool, video: VideoId) -> String {
    let row = row(pool, video).await;
    row["state"].as_str().expect("text").to_owned()
}

/// A video's whole row.
pub(crate) async fn row(pool: &PgPool, video: VideoId) -> Value {
    sqlx::query_scalar("select to_jsonb(v) from videos v where id = $1")
        .bind(video.0)
        .fetch_one(pool)
        .await
        .expect("the video")
}

/// A job's whole row.
pub(crate) async fn job_row(pool: &PgPool, job: JobId) -> Value {
    sqlx::query_scalar("select to_jsonb(j) from jobs j where id = $1")
        .bind(job.0)
        .fetch_one(pool)
        .await
        .expect("the job")
}

/// Every row that the pipeline writes, for "nothing was changed".
pub(crate) async fn everything(pool: &PgPool) -> Value {
    sqlx::query_scalar(
        "select jsonb_build_object(
           'videos', (select jsonb_agg(to_jsonb(v) order by v.id) from videos v),
           'jobs', (select jsonb_agg(to_jsonb(j) order by j.id) from jobs j),
           'attempts', (select jsonb_agg(to_jsonb(a) order by a.job_id, a.attempt) from job_attempts a),
           'objects', (select jsonb_agg(to_jsonb(o) order by o.key) from objects o),
           'embeddings', (select jsonb_agg(to_jsonb(e)) from embeddings e))",
    )
    .fetch_one(pool)
    .await
    .expect("a dump")
}

/// A sweep that nothing holds up: what it took back.
pub(crate) async fn sweep(db: &Db, max_lost: i32) -> Vec<JobId> {
    let swept = db.sweep(max_lost).await.expect("a sweep");
    assert!(swept.held_up.is_none(), "{:?}", swept.held_up);
    swept.taken_back.into_iter().map(|taken| taken.job).collect()
}

/// Makes every job due that waits for a time, as if the time had passed.
pub(crate) async fn let_time_pass(pool: &PgPool) {
    sqlx::query("update jobs set run_at = now() where state = 'pending' and run_at > now()")
        .execute(pool)
        .await
        .expect("moved");
}

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until this many statements stand in line for a lock in the database of this test.
pub(crate) async fn until_blocked(pool: &PgPool, statements: i64) {
    let blocked = async || -> i64 {
        sqlx::query_scalar(
            "select count(*) from pg_stat_activity
              where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await
        .expect("a count")
    };
    let waiting = async {
        while blocked().await < statements {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("they never stood in line");
}
