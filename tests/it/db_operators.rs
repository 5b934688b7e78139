//! The operator's functions: what runs again, what is cancelled, what is refused, and what a video says of itself.

use std::time::Duration;

use pipeline::db::{Commit, Db, Ordered};
use pipeline::stage::Stage;
use pipeline::video::{FailureCause, VideoId};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::db_actors::{
    LEASE, arrived, claimed, complete, detected, everything, job_of, job_row, let_time_pass, ready,
    row, state,
};
use crate::support::{TestDatabase, database};

const DETECTION: Stage = Stage::DuplicateDetection;
const PARALLEL: [Stage; 3] = [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings];

async fn rerun(db: &Db, video: VideoId, stage: Stage) {
    let ordered = db.rerun(video, stage).await.expect("an answer");
    assert!(matches!(ordered, Ordered::Done(_)), "{ordered:?}");
}

async fn cancel(db: &Db, video: VideoId, stage: Stage) {
    let ordered = db.cancel(video, stage).await.expect("an answer");
    assert!(matches!(ordered, Ordered::Done(_)), "{ordered:?}");
}

async fn job(pool: &PgPool, video: VideoId, stage: Stage) -> Value {
    job_row(pool, job_of(pool, video, stage).await).await
}

async fn says(db: &Db, video: VideoId, words: &[&str]) {
    let sentence = db.explain(video).await.expect("an answer").expect("a video");
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
    }
    assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence:?}");
}

/// Runs what waits of a video to its good end.
async fn finish(test: &TestDatabase, video: VideoId, stages: &[Stage]) {
    for &stage in stages {
        let lease = claimed(&test.db, test.pool(), video, stage).await;
        assert_eq!(complete(&test.db, &lease).await, Commit::Applied);
    }
}

#[tokio::test]
async fn a_dead_transcode_runs_again_with_what_was_cancelled_and_the_video_becomes_ready() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = detected(db, pool).await;
    let lease = claimed(db, pool, video, Stage::Transcode).await;
    db.fail(&lease, FailureCause::Internal, "a bug").await.expect("an answer");
    assert_eq!(state(pool, video).await, "failed");
    assert_eq!(job(pool, video, Stage::SpeechToText).await["state"], "cancelled");

    rerun(db, video, Stage::Transcode).await;

    let again = job(pool, video, Stage::Transcode).await;
    assert_eq!((&again["state"], &again["attempt"]), (&"pending".into(), &1.into()));
    assert_eq!((&again["failures"], &again["last_error"]), (&0.into(), &Value::Null));
    let row = row(pool, video).await;
    assert_eq!((&row["state"], &row["dead_stages"]), (&"processing".into(), &0.into()));
    assert_eq!((&row["failure_cause"], &row["processed_at"]), (&Value::Null, &Value::Null));
    assert_eq!(complete(db, &lease).await, Commit::Stale, "the old attempt changes nothing");
    finish(&test, video, &PARALLEL).await;
    assert_eq!(state(pool, video).await, "ready");
    assert_eq!(job(pool, video, Stage::Transcode).await["attempt"], 2);
}

#[tokio::test]
async fn a_failed_video_that_runs_again_is_an_original_unless_another_took_its_place() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let fail = async |video| {
        let lease = claimed(db, pool, video, Stage::Transcode).await;
        db.fail(&lease, FailureCause::Internal, "a bug").await.expect("an answer");
    };
    let claim_of = async |video| row(pool, video).await["original_claim"].clone();

    let alone = detected(db, pool).await;
    fail(alone).await;
    rerun(db, alone, Stage::Transcode).await;
    assert_eq!(claim_of(alone).await, "first_of_size");

    // All of these tests' videos have one size: the second stays nobody's original.
    let second = detected(db, pool).await;
    fail(second).await;
    rerun(db, second, Stage::Transcode).await;
    assert_eq!(claim_of(second).await, Value::Null);
}

#[tokio::test]
async fn a_ready_video_goes_on_playing_while_a_stage_runs_again() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = ready(db, pool).await;
    let playable_at = row(pool, video).await["playable_at"].clone();

    rerun(db, video, Stage::SpeechToText).await;

    let again = row(pool, video).await;
    assert_eq!((&again["state"], &again["processing_index"]), (&"ready".into(), &3.into()));
    assert_eq!(again["playable_at"], playable_at);
    says(db, video, &["It is ready since", "speech_to_text is due"]).await;
    finish(&test, video, &[Stage::SpeechToText]).await;
    let done = row(pool, video).await;
    assert_eq!((&done["state"], &done["processing_index"]), (&"ready".into(), &0.into()));
}

#[tokio::test]
async fn what_cannot_run_again_is_refused_with_the_reason_and_changes_nothing() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let refused = async |video, stage, why: &str| {
        let before = everything(pool).await;
        let Ordered::Refused(reason) = db.rerun(video, stage).await.expect("an answer") else {
            panic!("{stage} of {video} was not refused")
        };
        assert!(reason.contains(why), "{why:?} is not in {reason:?}");
        assert_eq!(everything(pool).await, before);
    };

    let waiting = arrived(db).await;
    refused(waiting, DETECTION, "waits to be run already").await;
    refused(waiting, Stage::Transcode, "has no transcode yet").await;
    claimed(db, pool, waiting, DETECTION).await;
    refused(waiting, DETECTION, "is running; cancel it first").await;

    let original = ready(db, pool).await;
    refused(original, DETECTION, "has decided").await;
    let copy = claimed(db, pool, arrived(db).await, DETECTION).await;
    db.complete_duplicate(&copy, original, [7; 32]).await.expect("an answer");
    refused(copy.video, DETECTION, &format!("run its original again, {original}")).await;

    let failed = detected(db, pool).await;
    let lease = claimed(db, pool, failed, Stage::Transcode).await;
    db.fail(&lease, FailureCause::Corrupt, "bad bytes").await.expect("an answer");
    refused(failed, Stage::SpeechToText, "failed in another stage").await;

    sqlx::query("update videos set state = 'deleting' where id = $1")
        .bind(original.0)
        .execute(pool)
        .await
        .expect("a delete");
    refused(original, Stage::Transcode, "is being deleted").await;
    let nobody = VideoId(Uuid::now_v7());
    let answer = db.rerun(nobody, DETECTION).await.expect("an answer");
    assert!(matches!(answer, Ordered::NoSuchVideo(_)), "{answer:?}");
}

#[tokio::test]
async fn a_cancelled_transcode_fails_the_video_and_frees_its_place() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = detected(db, pool).await;
    let lease = claimed(db, pool, video, Stage::Transcode).await;
    let sleeper = claimed(db, pool, arrived(db).await, DETECTION).await;
    db.wait_for(&sleeper, video, [7; 32], Duration::from_hours(1)).await.expect("an answer");

    cancel(db, video, Stage::Transcode).await;

    let cancelled = row(pool, video).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["failure_cause"]),
        (&"failed".into(), &"cancelled".into())
    );
    assert_eq!(cancelled["original_claim"], Value::Null);
    for stage in PARALLEL {
        assert_eq!(job(pool, video, stage).await["state"], "cancelled", "{stage}");
    }
    assert_eq!(job(pool, sleeper.video, DETECTION).await["waits_for"], Value::Null, "it is woken");
    assert_eq!(complete(db, &lease).await, Commit::Stale, "what the worker does is in vain");
    assert_eq!(db.attempt_outcome(&lease).await.expect("an answer").as_deref(), Some("cancelled"));
    let kept = db.heartbeat(lease.worker, &[lease], LEASE).await.expect("an answer");
    assert_eq!(kept, []);
    assert_eq!(db.taken_away(&[lease]).await.expect("an answer"), [(lease.job, lease.attempt)]);
    says(db, video, &["It failed at", "cancelled by an operator", "run the stage again"]).await;

    rerun(db, video, Stage::Transcode).await;
    finish(&test, video, &PARALLEL).await;
    assert_eq!(state(pool, video).await, "ready");
}

#[tokio::test]
async fn a_video_is_ready_without_a_cancelled_transcript_and_gets_it_by_a_rerun() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = detected(db, pool).await;
    finish(&test, video, &[Stage::Transcode, Stage::Embeddings]).await;
    cancel(db, video, Stage::SpeechToText).await;
    assert_eq!(state(pool, video).await, "ready");
    assert_eq!(row(pool, video).await["processing_index"], 3);
    let again = db.cancel(video, Stage::SpeechToText).await.expect("an answer");
    assert!(
        matches!(&again, Ordered::Refused(why) if why.contains("it is cancelled")),
        "{again:?}"
    );
    rerun(db, video, Stage::SpeechToText).await;
    finish(&test, video, &[Stage::SpeechToText]).await;
    assert_eq!(row(pool, video).await["processing_index"], 0);
}

#[tokio::test]
async fn a_paused_queue_dispatches_and_claims_nothing_until_it_is_resumed() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let (video, in_redis) = (arrived(db).await, arrived(db).await);
    let pushed = db.due(DETECTION, 1).await.expect("due");
    assert_eq!(pushed, [job_of(pool, video, DETECTION).await]);

    db.pause(DETECTION, Some("the disk is full")).await.expect("paused");
    db.pause(DETECTION, None).await.expect("paused again");

    assert_eq!(db.due(DETECTION, 10).await.expect("due"), []);
    let worker = pipeline::job::WorkerId::new();
    let claim = db.claim(pushed[0], worker, LEASE, LEASE).await.expect("an answer");
    assert!(claim.is_none(), "{claim:?}");
    says(db, in_redis, &["its queue is paused", "(the disk is full)", "clipstream queues resume"])
        .await;
    let figures = db.queue_figures().await.expect("figures");
    assert_eq!((figures[0].pending, figures[0].dispatched), (2, 1));
    assert!(figures[0].paused.is_some() && figures[1].paused.is_none());

    assert!(db.resume(DETECTION).await.expect("resumed"));
    assert!(!db.resume(DETECTION).await.expect("an answer"));
    claimed(db, pool, video, DETECTION).await;
    assert_eq!(db.due(DETECTION, 10).await.expect("due").len(), 1);
    let figures = db.queue_figures().await.expect("figures");
    assert_eq!((figures[0].running, figures[0].oldest.is_some()), (1, true));
}

#[tokio::test]
async fn every_situation_of_a_video_is_one_sentence_that_says_what_comes_next() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = arrived(db).await;
    says(db, video, &["processed since", "waits for its turn", "the other stages follow"]).await;
    db.due(DETECTION, 1).await.expect("due");
    says(db, video, &["in the Redis queue since"]).await;
    let lease = claimed(db, pool, video, DETECTION).await;
    says(db, video, &["runs since", "attempt 1", "0 % done", "lease renewed until"]).await;
    let (minute, kind) = (Duration::from_mins(1), pipeline::db::Strike::Failure);
    db.retry(&lease, FailureCause::Dependency, "503", kind, 5, minute).await.expect("an answer");
    says(db, video, &["tried again at", "after 1 failures", "503"]).await;
    let_time_pass(pool).await;
    let lease = claimed(db, pool, video, DETECTION).await;
    db.wait_for(&lease, ready(db, pool).await, [7; 32], minute).await.expect("an answer");
    let original = arrived(db).await;
    let lease = claimed(db, pool, video, DETECTION).await;
    db.wait_for(&lease, original, [7; 32], minute).await.expect("an answer");
    says(db, video, &[&format!("waits for {original}"), "the same bytes"]).await;
    let_time_pass(pool).await;
    let lease = claimed(db, pool, video, DETECTION).await;
    sqlx::query("update jobs set lease_until = now() - interval '1 s' where id = $1")
        .bind(lease.job.0)
        .execute(pool)
        .await
        .expect("lost");
    says(db, video, &["lost its worker at"]).await;
    db.fail(&lease, FailureCause::Truncated, "12 of 60 s").await.expect("an answer");
    says(db, video, &["It failed at", "truncated (12 of 60 s)", "upload all of it"]).await;

    let silent = detected(db, pool).await;
    let speech = claimed(db, pool, silent, Stage::SpeechToText).await;
    db.fail(&speech, FailureCause::SpeechEngine, "500").await.expect("an answer");
    finish(&test, silent, &[Stage::Transcode, Stage::Embeddings]).await;
    says(db, silent, &["It is ready since", "speech_to_text is dead", "mend the engine"]).await;

    let upload = Uuid::now_v7();
    sqlx::query(
        "insert into videos (id, owner_id, bucket, object_key, announced_by, state, upload_expires_at)
         select $1, id, 'clipstream', 'raw-uploads/x', 'api', 'uploading', now() + interval '5 min' from owners limit 1",
    )
    .bind(upload)
    .execute(pool)
    .await
    .expect("announced");
    says(db, VideoId(upload), &["waits for its upload", "can be used until"]).await;
    let expire = "update videos set state = 'expired' where id = $1";
    sqlx::query(expire).bind(upload).execute(pool).await.expect("expired");
    says(db, VideoId(upload), &["ended unused", "should the upload come"]).await;
    assert_eq!(db.explain(VideoId(Uuid::now_v7())).await.expect("an answer"), None);
}

#[tokio::test]
async fn every_cause_has_a_remedy_of_its_own() {
    let test = database().await;
    let fallback: String =
        sqlx::query_scalar("select remedy(null)").fetch_one(test.pool()).await.expect("a text");
    for cause in FailureCause::ALL {
        let remedy: String = sqlx::query_scalar("select remedy($1)")
            .bind(cause.as_str())
            .fetch_one(test.pool())
            .await
            .expect("a text");
        // `internal` is a defect of ours, as is whatever this version does not know.
        assert!(remedy != fallback || cause == FailureCause::Internal, "{cause}");
    }
}
