//! How a video ends well: its stages in any order, at the same instant, or with one of them dead.

use pipeline::db::Commit;
use pipeline::stage::Stage;
use pipeline::video::FailureCause;
use serde_json::json;
use tokio::time::timeout;

use crate::db_actors::{
    PATIENCE, claimed, complete, detected, facts, job_of, job_row, ready, row, state, until_blocked,
};
use crate::support::database;

const PARALLEL: [Stage; 3] = [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings];

#[tokio::test]
async fn duplicate_detection_makes_the_other_jobs_and_rings() {
    let test = database().await;
    let bell = test.db.jobs_due();
    let video = detected(&test.db, test.pool()).await;

    for stage in PARALLEL {
        let job = job_of(test.pool(), video, stage).await;
        assert_eq!(job_row(test.pool(), job).await["state"], "pending");
    }
    let row = row(test.pool(), video).await;
    assert_eq!((&row["state"], &row["processing_index"]), (&json!("processing"), &json!(2)));
    timeout(PATIENCE, bell.notified()).await.expect("dispatch is told at once");
}

#[tokio::test]
async fn a_video_is_ready_when_its_last_stage_ends_in_any_order() {
    let test = database().await;
    let [t, s, e] = PARALLEL;
    for order in [[t, s, e], [t, e, s], [s, t, e], [s, e, t], [e, t, s], [e, s, t]] {
        let video = detected(&test.db, test.pool()).await;
        for (place, stage) in order.into_iter().enumerate() {
            assert_eq!(state(test.pool(), video).await, "processing", "{order:?} at {place}");
            let lease = claimed(&test.db, test.pool(), video, stage).await;
            assert_eq!(complete(&test.db, &lease).await, Commit::Applied);
        }
        let row = row(test.pool(), video).await;
        assert_eq!(row["state"], "ready", "{order:?}");
        assert_eq!(row["processing_index"], 0);
        assert!(row["processed_at"].is_string());
    }
}

#[tokio::test]
async fn results_are_recorded_with_the_commit() {
    let test = database().await;
    let video = ready(&test.db, test.pool()).await;
    let row = row(test.pool(), video).await;
    assert_eq!(row["media"]["container"], "mp4");
    assert_eq!(row["playback"], json!({"renditions": []}));
    assert!(row["playable_at"].is_string(), "renditions that are up can be played");
    assert_eq!(row["sha256"], format!("\\x{}", "07".repeat(32)));

    let speech = job_of(test.pool(), video, Stage::SpeechToText).await;
    assert_eq!(job_row(test.pool(), speech).await["result"], json!({"status": "no_audio"}));

    let vector: (String, String, i16, f32, Vec<u8>) = sqlx::query_as(
        "select engine, model, dims, scale, vector from embeddings where video_id = $1",
    )
    .bind(video.0)
    .fetch_one(test.pool())
    .await
    .expect("the vector");
    assert_eq!(vector, ("builtin".into(), "look-1".into(), 4, 0.5, vec![1, 254, 127, 128]));
}

#[tokio::test]
async fn a_video_without_pictures_has_no_vector() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Embeddings).await;
    let commit = test.db.complete_embeddings(&lease, "builtin", "look-1", None, &json!({})).await;
    assert_eq!(commit.expect("an answer"), Commit::Applied);
    let vectors: i64 = sqlx::query_scalar("select count(*) from embeddings")
        .fetch_one(test.pool())
        .await
        .expect("a count");
    assert_eq!(vectors, 0);
}

#[tokio::test]
async fn the_first_playable_moment_is_kept() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    assert_eq!(test.db.mark_playable(&lease).await.expect("an answer"), Commit::Applied);
    let first = row(test.pool(), video).await["playable_at"].clone();
    assert!(first.is_string());

    assert_eq!(test.db.mark_playable(&lease).await.expect("an answer"), Commit::Applied);
    complete(&test.db, &lease).await;
    assert_eq!(row(test.pool(), video).await["playable_at"], first);
}

#[tokio::test]
async fn a_hash_that_is_known_is_kept() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let lease = claimed(&test.db, test.pool(), video, Stage::Transcode).await;
    sqlx::query("update videos set sha256 = $2 where id = $1")
        .bind(video.0)
        .bind([9_u8; 32].as_slice())
        .execute(test.pool())
        .await
        .expect("set");
    test.db.complete_transcode(&lease, [1; 32], &facts(), &json!({})).await.expect("an answer");
    assert_eq!(row(test.pool(), video).await["sha256"], format!("\\x{}", "09".repeat(32)));
}

#[tokio::test]
async fn a_dead_optional_stage_leaves_the_video_ready() {
    let test = database().await;
    for (dead, index) in [(Stage::SpeechToText, 3), (Stage::Embeddings, 4)] {
        for dies_last in [false, true] {
            let video = detected(&test.db, test.pool()).await;
            let mut order = PARALLEL.to_vec();
            order.sort_by_key(|stage| (*stage == dead) == dies_last);
            for stage in order {
                let lease = claimed(&test.db, test.pool(), video, stage).await;
                if stage == dead {
                    let cause = FailureCause::SpeechEngine;
                    test.db.fail(&lease, cause, "it said no").await.expect("an answer");
                } else {
                    complete(&test.db, &lease).await;
                }
            }
            let row = row(test.pool(), video).await;
            assert_eq!(row["state"], "ready", "{dead} dead, last: {dies_last}");
            assert_eq!(row["processing_index"], index);
            assert!(row["failure_cause"].is_null());
            assert!(row["processed_at"].is_string());
        }
    }
}

/// Two leases of each video end together; the third stage has ended before.
#[tokio::test(flavor = "multi_thread")]
async fn two_stages_that_end_at_once_make_the_video_ready_exactly_once_200_times() {
    let test = database().await;
    // A trigger counts transitions, since a second one would leave the same row.
    for statement in [
        "create table transitions (video_id uuid)",
        "create function note() returns trigger language plpgsql as
         'begin insert into transitions values (new.id); return new; end'",
        "create trigger note after update on videos for each row
         when (new.state = 'ready' and old.state <> 'ready') execute function note()",
    ] {
        sqlx::query(statement).execute(test.pool()).await.expect("made");
    }
    for round in 0..200 {
        let video = detected(&test.db, test.pool()).await;
        let [first, a, b] = match round % 3 {
            0 => PARALLEL,
            1 => [Stage::SpeechToText, Stage::Transcode, Stage::Embeddings],
            _ => [Stage::Embeddings, Stage::SpeechToText, Stage::Transcode],
        };
        let lease = claimed(&test.db, test.pool(), video, first).await;
        complete(&test.db, &lease).await;
        let a = claimed(&test.db, test.pool(), video, a).await;
        let b = claimed(&test.db, test.pool(), video, b).await;

        let both = tokio::join!(complete(&test.db, &a), complete(&test.db, &b));

        assert_eq!(both, (Commit::Applied, Commit::Applied), "round {round}");
        assert_eq!(state(test.pool(), video).await, "ready", "round {round}");
    }
    let transitions: i64 = sqlx::query_scalar("select count(*) from transitions")
        .fetch_one(test.pool())
        .await
        .expect("a count");
    assert_eq!(transitions, 200);
}

/// All three commits have read the row as it was before any of them: the worst interleaving there is.
#[tokio::test(flavor = "multi_thread")]
async fn stages_that_all_saw_the_old_row_still_make_the_video_ready() {
    let test = database().await;
    let video = detected(&test.db, test.pool()).await;
    let mut leases = Vec::new();
    for stage in PARALLEL {
        leases.push(claimed(&test.db, test.pool(), video, stage).await);
    }
    let mut lock = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *lock).await.expect("begun");
    sqlx::query("select 1 from videos where id = $1 for update")
        .bind(video.0)
        .execute(&mut *lock)
        .await
        .expect("locked");

    let (one, two, three, ()) = tokio::join!(
        complete(&test.db, &leases[0]),
        complete(&test.db, &leases[1]),
        complete(&test.db, &leases[2]),
        async {
            until_blocked(test.pool(), 3).await;
            sqlx::query("commit").execute(&mut *lock).await.expect("released");
        }
    );

    assert_eq!([one, two, three], [Commit::Applied; 3]);
    assert_eq!(state(test.pool(), video).await, "ready");
}
