//! Reruns beside everything else: claims that began before, other stages of the same video, the strikes of earlier tries,
//! and sources that come back.

use std::time::Duration;

use pipeline::db::{Announcer, Db, Ordered, Retried, Strike};
use pipeline::job::WorkerId;
use pipeline::stage::Stage;
use pipeline::video::{FailureCause, VideoId};
use sqlx::PgPool;

use crate::db_actors::{
    DEADLINE, LEASE, claimed, complete, detected, job_of, job_row, object, ready, row, state,
};
use crate::support::{TestDatabase, database};

async fn rerun(db: &Db, video: VideoId, stage: Stage) {
    let ordered = db.rerun(video, stage).await.expect("an answer");
    assert!(matches!(ordered, Ordered::Done(_)), "{ordered:?}");
}

async fn job_state(pool: &PgPool, video: VideoId, stage: Stage) -> String {
    let row = job_row(pool, job_of(pool, video, stage).await).await;
    row["state"].as_str().expect("text").to_owned()
}

/// A failed video, one of whose jobs was given back after it had failed, and so waits to be dropped by its claim.
async fn failed_with_a_job_that_waits(test: &TestDatabase) -> VideoId {
    let (db, pool) = (&test.db, test.pool());
    let video = detected(db, pool).await;
    let speech = claimed(db, pool, video, Stage::SpeechToText).await;
    let transcode = claimed(db, pool, video, Stage::Transcode).await;
    db.fail(&transcode, FailureCause::Internal, "a bug").await.expect("an answer");
    db.release(&speech, "a stop", Duration::ZERO).await.expect("an answer");
    video
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_at_the_moment_of_a_rerun_drops_nothing_of_it_300_times() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    for _ in 0..300 {
        let video = failed_with_a_job_that_waits(&test).await;
        let job = job_of(pool, video, Stage::SpeechToText).await;

        // Whichever comes first: the claim may see the video failed, and the job must be there afterwards all the same.
        let claim = db.claim(job, WorkerId::new(), LEASE, DEADLINE);
        let (claim, ()) = tokio::join!(claim, rerun(db, video, Stage::Transcode));

        let expected = if claim.expect("an answer").is_some() { "running" } else { "pending" };
        assert_eq!(job_state(pool, video, Stage::SpeechToText).await, expected);
    }
}

#[tokio::test]
async fn a_stage_that_dies_or_is_cancelled_in_a_ready_video_takes_no_other_rerun_with_it() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    for cancelled in [false, true] {
        let video = ready(db, pool).await;
        rerun(db, video, Stage::Transcode).await;
        rerun(db, video, Stage::Embeddings).await;
        let transcode = claimed(db, pool, video, Stage::Transcode).await;
        if cancelled {
            db.cancel(video, Stage::Transcode).await.expect("an answer");
        } else {
            db.fail(&transcode, FailureCause::Internal, "a bug").await.expect("an answer");
        }

        assert_eq!(state(pool, video).await, "ready", "it goes on playing");
        assert_eq!(job_state(pool, video, Stage::Embeddings).await, "pending");
        complete(db, &claimed(db, pool, video, Stage::Embeddings).await).await;
        assert_eq!(job_state(pool, video, Stage::Embeddings).await, "done");
    }
}

#[tokio::test]
async fn deadlines_before_a_rerun_are_not_held_against_it() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let video = detected(db, pool).await;
    for expected in [Retried::Again, Retried::Dead, Retried::Again, Retried::Dead] {
        let lease = claimed(db, pool, video, Stage::Transcode).await;
        let cause = FailureCause::DeadlineExceeded;
        let retried = db.retry(&lease, cause, "late", Strike::Failure, 2, Duration::ZERO).await;
        assert_eq!(retried.expect("an answer"), expected);
        if expected == Retried::Dead {
            rerun(db, video, Stage::Transcode).await;
        }
    }
}

#[tokio::test]
async fn a_source_that_was_missing_and_is_back_is_processed_after_all() {
    let test = database().await;
    let (db, pool) = (&test.db, test.pool());
    let first = object("raw-uploads/a.mp4", "abc");
    let mut again = first.clone();
    again.sequencer = Some("1879F0A1B2C3D4E6".to_owned());
    let video = db.accept_object(&first, Announcer::Webhook).await.expect("accepted").video;
    let lose = async || {
        let lease = claimed(db, pool, video, Stage::DuplicateDetection).await;
        db.fail(&lease, FailureCause::SourceMissing, "404").await.expect("an answer");
    };
    lose().await;
    assert!(!db.accept_object(&first, Announcer::Webhook).await.expect("accepted").created);
    assert_eq!(state(pool, video).await, "failed", "the same event twice is no second upload");

    let accepted = db.accept_object(&again, Announcer::Webhook).await.expect("accepted");
    assert_eq!((accepted.video, accepted.created), (video, true));
    assert_eq!(state(pool, video).await, "processing");
    assert!(row(pool, video).await["failure_cause"].is_null());

    lose().await;
    let mut listed = first.clone();
    listed.sequencer = None;
    assert_eq!(db.unknown_objects(&[listed.clone()]).await.expect("a list"), [listed.clone()]);
    let accepted = db.accept_object(&listed, Announcer::Reconcile).await.expect("accepted");
    assert_eq!((accepted.video, accepted.created), (video, true));
    assert_eq!(db.unknown_objects(&[listed]).await.expect("a list"), []);
}
