//! The operator's psql: what the views say of videos and of jobs that need a look.

use std::time::Duration;

use pipeline::job::WorkerId;
use pipeline::stage::Stage;
use pipeline::video::{FailureCause, OwnerId, VideoId};
use serde_json::Value;
use sqlx::PgPool;

use crate::db_actors::{DEADLINE, arrived, claimed, complete, detected, job_of, ready};
use crate::support::{TestDatabase, database};

async fn status(pool: &PgPool, video: VideoId) -> Value {
    sqlx::query_scalar("select to_jsonb(s) from pipeline_status s where video_id = $1")
        .bind(video.0)
        .fetch_one(pool)
        .await
        .expect("a row")
}

/// Why the job of a video's stage is called stuck, if it is.
async fn reason(pool: &PgPool, video: VideoId, stage: Stage) -> Option<String> {
    sqlx::query_scalar("select reason from stuck_jobs where video_id = $1 and stage = $2")
        .bind(video.0)
        .bind(stage.as_str())
        .fetch_optional(pool)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_row_of_the_status_shows_every_stage() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let transcode = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    test.db.set_progress(&transcode, 0.5).await.expect("an answer");
    let speech = claimed(&test.db, test.pool(), video, Stage::SpeechToText).await;
    let cause = FailureCause::SpeechEngine;
    test.db.fail(&speech, cause, "it answered 500").await.expect("an answer");

    let row = status(test.pool(), video).await;

    let stages = &row["stages"];
    assert_eq!(
        (row["state"].as_str(), row["owner"].as_str()),
        (Some("processing"), Some("default"))
    );
    assert_eq!(row["processing_index"], 2);
    assert_eq!(stages["duplicate_detection"]["state"], "done");
    assert!(stages["duplicate_detection"]["run_s"].is_number());
    assert_eq!(stages["transcode"]["state"], "running");
    assert_eq!(
        (&stages["transcode"]["attempt"], &stages["transcode"]["progress"]),
        (&1.into(), &0.5.into())
    );
    assert_eq!(stages["speech_to_text"]["cause"], "speech_engine");
    assert_eq!(stages["speech_to_text"]["error"], "it answered 500");
    assert_eq!(stages["embeddings"]["state"], "pending");
    assert!(stages["embeddings"]["wait_s"].is_number() && stages["embeddings"]["run_s"].is_null());

    let done = ready(&test.db, test.pool()).await;
    let row = status(test.pool(), done).await;
    assert!(row["time_to_playable"].is_string() && row["time_to_end"].is_string());
}

#[tokio::test]
async fn every_kind_of_stuck_job_has_its_reason() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let stage = Stage::DuplicateDetection;
    let job_says = async |video, words: &str| {
        let reason = reason(pool, video, stage).await.expect("it is stuck");
        assert!(reason.contains(words), "{words:?} is not in {reason:?}");
    };
    let healthy = arrived(db).await;
    assert_eq!(reason(pool, healthy, stage).await, None);
    let lease = claimed(db, pool, healthy, stage).await;
    assert_eq!(reason(pool, healthy, stage).await, None);
    complete(db, &lease).await;
    assert_eq!(reason(pool, healthy, stage).await, None);

    let dead = claimed(db, pool, arrived(db).await, stage).await;
    db.fail(&dead, FailureCause::EmptyFile, "it has 0 bytes").await.expect("an answer");
    job_says(dead.video, "dead: empty_file (it has 0 bytes)").await;

    let lost = arrived(db).await;
    let job = job_of(pool, lost, stage).await;
    db.claim(job, WorkerId::new(), Duration::ZERO, DEADLINE).await.expect("an answer");
    job_says(lost, "its worker is gone").await;

    let backing_off = claimed(db, pool, arrived(db).await, stage).await;
    let minute = Duration::from_mins(1);
    db.release(&backing_off, "MinIO is away", minute).await.expect("an answer");
    job_says(backing_off.video, "after: MinIO is away").await;

    let looping = arrived(db).await;
    for _ in 0..3 {
        assert_eq!(reason(pool, looping, stage).await, None);
        let lease = claimed(db, pool, looping, stage).await;
        db.release(&lease, "Redis is away", Duration::ZERO).await.expect("an answer");
    }
    job_says(looping, "released again and again: Redis is away").await;

    let original = arrived(db).await;
    let waiting = claimed(db, pool, arrived(db).await, stage).await;
    db.wait_for(&waiting, original, [1; 32], minute).await.expect("an answer");
    job_says(waiting.video, &format!("waits for original {original}")).await;
}

/// Due for five minutes.
async fn overdue(test: &TestDatabase) -> VideoId {
    let video = arrived(&test.db).await;
    sqlx::query("update jobs set run_at = now() - interval '5 minutes' where video_id = $1")
        .bind(video.0)
        .execute(test.pool())
        .await
        .expect("aged");
    video
}

#[tokio::test]
async fn a_job_that_waits_its_turn_is_not_stuck_and_one_that_nobody_begins_is() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let stage = Stage::DuplicateDetection;
    let says = async |video| reason(pool, video, stage).await.unwrap_or_default();

    let neglected = overdue(&test).await;
    assert!(says(neglected).await.contains("nobody dispatches it"));
    db.pause(stage, Some("maintenance")).await.expect("paused");
    assert_eq!(reason(pool, neglected, stage).await, None, "a pause has an alert of its own");
    assert!(db.resume(stage).await.expect("resumed"));

    let owner = [OwnerId::DEFAULT.0];
    let bound = "update owners set max_inflight = $2 where id = any($1)";
    sqlx::query(bound).bind(owner).bind(1).execute(pool).await.expect("bounded");
    let running = claimed(db, pool, arrived(db).await, stage).await;
    sqlx::query("update jobs set started_at = now() - interval '1 hour' where id = $1")
        .bind(running.job.0)
        .execute(pool)
        .await
        .expect("aged");
    assert_eq!(reason(pool, neglected, stage).await, None, "its owner has all he may have");
    sqlx::query(bound).bind(owner).bind(None::<i32>).execute(pool).await.expect("unbounded");
    assert!(says(neglected).await.contains("nobody dispatches it"));

    db.due(stage, 1).await.expect("due");
    assert!(says(neglected).await.contains("dispatched but not claimed"));
    let behind = overdue(&test).await;
    assert_eq!(reason(pool, behind, stage).await, None, "it is behind another");
}

#[tokio::test]
async fn a_video_that_nothing_will_end_is_called_a_defect() {
    let test = database().await;
    let video = arrived(&test.db).await;
    sqlx::query("update jobs set state = 'cancelled', finished_at = now()")
        .execute(test.pool())
        .await
        .expect("cancelled");
    let reason: String = sqlx::query_scalar("select reason from stuck_jobs where video_id = $1")
        .bind(video.0)
        .fetch_one(test.pool())
        .await
        .expect("it is stuck");
    assert!(reason.contains("a defect"), "{reason}");
}
