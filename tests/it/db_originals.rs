//! Which of identical uploads is the original, also when they arrive in the same instant, and what the others do.

use std::time::Duration;

use pipeline::db::{Commit, DuplicateCommit};
use pipeline::job::Lease;
use pipeline::stage::Stage;
use pipeline::video::{BytesClaim, FailureCause, SizeClaim, VideoId, VideoState};
use serde_json::json;
use tokio::time::timeout;

use crate::db_actors::{
    PATIENCE, arrived, claimed, complete, facts, job_row, let_time_pass, ready, row, state, sweep,
    until_blocked,
};
use crate::support::{TestDatabase, database};

const BYTES: [u8; 32] = [1; 32];
const OTHER_BYTES: [u8; 32] = [2; 32];
const POLL: Duration = Duration::from_hours(1);

async fn detecting(test: &TestDatabase) -> Lease {
    let video = arrived(&test.db).await;
    claimed(&test.db, test.pool(), video, Stage::DuplicateDetection).await
}

async fn claim_size(test: &TestDatabase, lease: &Lease, size: u64) -> SizeClaim {
    test.db.claim_size(lease, size).await.expect("an answer")
}

fn candidates(claim: SizeClaim) -> Vec<VideoId> {
    match claim {
        SizeClaim::First => Vec::new(),
        SizeClaim::Taken(candidates) => candidates.into_iter().map(|c| c.video).collect(),
    }
}

/// What the stage does with its own and the candidates' bytes. Every candidate has `BYTES` unless its row knows better.
async fn detect(test: &TestDatabase, lease: &Lease, sha256: [u8; 32]) -> Option<BytesClaim> {
    match claim_size(test, lease, 1_000).await {
        SizeClaim::First => None,
        SizeClaim::Taken(candidates) => {
            let hashes: Vec<_> =
                candidates.iter().map(|c| (c.video, c.sha256.unwrap_or(BYTES))).collect();
            let claim = test.db.claim_bytes(lease, sha256, &hashes).await;
            Some(claim.expect("an answer"))
        }
    }
}

#[tokio::test]
async fn the_first_of_a_size_is_an_original_and_gets_the_same_answer_again() {
    let test = database().await;
    let lease = detecting(&test).await;
    for _ in 0..2 {
        assert!(matches!(claim_size(&test, &lease, 1_000).await, SizeClaim::First));
    }
    let second = detecting(&test).await;
    assert_eq!(candidates(claim_size(&test, &second, 1_000).await), [lease.video]);
    assert!(matches!(claim_size(&test, &second, 1_001).await, SizeClaim::First), "another size");
    assert_eq!(row(test.pool(), second.video).await["size_bytes"], 1_001);
}

/// A transcode has left the hash in our row; another video with the same bytes becomes an original while we claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_claim_that_loses_by_its_hash_finds_the_winner() {
    let test = database().await;
    let (ours, theirs) = (detecting(&test).await, detecting(&test).await);
    let read =
        "update videos set size_bytes = 1000, sha256 = $2, original_claim = $3 where id = $1";
    sqlx::query(read)
        .bind(ours.video.0)
        .bind(BYTES)
        .bind(None::<&str>)
        .execute(test.pool())
        .await
        .expect("read");
    let mut winner = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *winner).await.expect("begun");
    sqlx::query(read)
        .bind(theirs.video.0)
        .bind(BYTES)
        .bind(Some("same_size"))
        .execute(&mut *winner)
        .await
        .expect("claimed, not committed yet");

    let (claim, ()) = tokio::join!(claim_size(&test, &ours, 1_000), async {
        until_blocked(test.pool(), 1).await;
        sqlx::query("commit").execute(&mut *winner).await.expect("committed");
    });

    assert_eq!(candidates(claim), [theirs.video]);
}

#[tokio::test]
async fn owners_do_not_see_each_others_originals() {
    let test = database().await;
    let (mine, theirs) = (detecting(&test).await, detecting(&test).await);
    claim_size(&test, &theirs, 1_000).await;
    sqlx::query(
        "with o as (insert into owners (id, name) values (gen_random_uuid(), 'other') returning id)
                 update videos set owner_id = o.id from o where videos.id = $1",
    )
    .bind(theirs.video.0)
    .execute(test.pool())
    .await
    .expect("given away");
    assert!(matches!(claim_size(&test, &mine, 1_000).await, SizeClaim::First));
}

#[tokio::test]
async fn same_size_and_other_bytes_is_an_original_too() {
    let test = database().await;
    let (a, b, c) = (detecting(&test).await, detecting(&test).await, detecting(&test).await);
    assert_eq!(detect(&test, &a, BYTES).await, None);
    assert_eq!(detect(&test, &b, OTHER_BYTES).await, Some(BytesClaim::Original));
    assert_eq!(detect(&test, &b, OTHER_BYTES).await, Some(BytesClaim::Original), "again");
    let hash = row(test.pool(), a.video).await["sha256"].clone();
    assert_eq!(hash, format!("\\x{}", "01".repeat(32)), "the hash that was read is kept");

    let held = BytesClaim::HeldBy { original: b.video, state: VideoState::Processing };
    assert_eq!(detect(&test, &c, OTHER_BYTES).await, Some(held));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_identical_uploads_at_once_have_one_original_100_times() {
    let test = database().await;
    for round in 0..100 {
        let (a, b) = (detecting(&test).await, detecting(&test).await);
        let size = 5_000 + round;
        // Even rounds race for the size, odd ones for the bytes, behind a third video that holds the size.
        let bytes = if round % 2 == 0 { BYTES } else { OTHER_BYTES };
        if round % 2 == 1 {
            let third = detecting(&test).await;
            assert!(matches!(claim_size(&test, &third, size).await, SizeClaim::First));
        }
        let one = async |lease: &Lease| match claim_size(&test, lease, size).await {
            SizeClaim::First => true,
            SizeClaim::Taken(candidates) => {
                let hashes: Vec<_> =
                    candidates.iter().map(|c| (c.video, c.sha256.unwrap_or(BYTES))).collect();
                let claim = test.db.claim_bytes(lease, bytes, &hashes).await.expect("an answer");
                match claim {
                    BytesClaim::Original => true,
                    BytesClaim::HeldBy { original, .. } => {
                        assert!(original == a.video || original == b.video);
                        false
                    }
                }
            }
        };
        let (a, b) = tokio::join!(one(&a), one(&b));
        assert!(a != b, "round {round}: exactly one original, not {a} and {b}");
        // The next round has its own bytes to fight for.
        sqlx::query("update videos set original_claim = null")
            .execute(test.pool())
            .await
            .expect("reset");
    }
}

#[tokio::test]
async fn only_a_ready_original_is_aliased() {
    let test = database().await;
    let (original, copy) = (detecting(&test).await, detecting(&test).await);
    detect(&test, &original, BYTES).await;
    let alias = || test.db.complete_duplicate(&copy, original.video, BYTES);
    assert_eq!(alias().await.expect("an answer"), DuplicateCommit::OriginalNotReady);
    assert_eq!(state(test.pool(), copy.video).await, "processing");

    finish_all(&test, &original).await;
    assert_eq!(alias().await.expect("an answer"), DuplicateCommit::Applied);
    let row = row(test.pool(), copy.video).await;
    assert_eq!(row["state"], "duplicate");
    assert_eq!(row["duplicate_of"], original.video.to_string());
    assert_eq!(row["processing_index"], 0);
    assert!(row["playable_at"].is_string() && row["processed_at"].is_string());
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where video_id = $1")
        .bind(copy.video.0)
        .fetch_one(test.pool())
        .await
        .expect("a count");
    assert_eq!(jobs, 1, "a duplicate is not transcoded");
}

#[tokio::test]
async fn a_video_is_no_duplicate_of_itself_or_of_another_owners() {
    let test = database().await;
    let mine = ready(&test.db, test.pool()).await;
    let copy = detecting(&test).await;
    let itself = test.db.complete_duplicate(&copy, copy.video, BYTES).await;
    assert_eq!(itself.expect("an answer"), DuplicateCommit::OriginalNotReady);
    sqlx::query(
        "with o as (insert into owners (id, name) values (gen_random_uuid(), 'other') returning id)
                 update videos set owner_id = o.id from o where videos.id = $1",
    )
    .bind(mine.0)
    .execute(test.pool())
    .await
    .expect("given away");
    let foreign = test.db.complete_duplicate(&copy, mine, BYTES).await;
    assert_eq!(foreign.expect("an answer"), DuplicateCommit::OriginalNotReady);
}

/// From duplicate detection to `ready`.
async fn finish_all(test: &TestDatabase, original: &Lease) {
    complete(&test.db, original).await;
    for stage in [Stage::SpeechToText, Stage::Embeddings, Stage::Transcode] {
        let lease = claimed(&test.db, test.pool(), original.video, stage).await;
        let commit = match stage {
            Stage::Transcode => {
                test.db.complete_transcode(&lease, BYTES, &facts(), &json!({})).await
            }
            _ => Ok(complete(&test.db, &lease).await),
        };
        assert_eq!(commit.expect("an answer"), Commit::Applied);
    }
    assert_eq!(state(test.pool(), original.video).await, "ready");
}

async fn wait(test: &TestDatabase, copy: &Lease, original: VideoId) {
    let waiting = test.db.wait_for(copy, original, BYTES, POLL).await.expect("an answer");
    assert_eq!(waiting, Commit::Applied);
}

async fn is_due(test: &TestDatabase, lease: &Lease) -> bool {
    sqlx::query_scalar(
        "select run_at <= now() and waits_for is null and dispatched_at is null from jobs where id = $1",
    )
    .bind(lease.job.0)
    .fetch_one(test.pool())
    .await
    .expect("an answer")
}

#[tokio::test]
async fn a_waiting_duplicate_is_woken_when_its_original_is_ready() {
    let test = database().await;
    let (original, copy) = (detecting(&test).await, detecting(&test).await);
    detect(&test, &original, BYTES).await;
    wait(&test, &copy, original.video).await;
    assert!(!is_due(&test, &copy).await);
    let outcome = test.db.attempt_outcome(&copy).await.expect("an answer");
    assert_eq!(outcome.as_deref(), Some("waiting"));
    let bell = test.db.jobs_due();

    finish_all(&test, &original).await;

    assert!(is_due(&test, &copy).await);
    timeout(PATIENCE, bell.notified()).await.expect("dispatch is told at once");
    let copy = claimed(&test.db, test.pool(), copy.video, Stage::DuplicateDetection).await;
    let alias = test.db.complete_duplicate(&copy, original.video, BYTES).await;
    assert_eq!(alias.expect("an answer"), DuplicateCommit::Applied);
}

#[tokio::test]
async fn a_waiting_duplicate_is_processed_when_its_original_fails() {
    let test = database().await;
    for failing in [Stage::DuplicateDetection, Stage::Transcode] {
        let (original, copy) = (detecting(&test).await, detecting(&test).await);
        detect(&test, &original, BYTES).await;
        wait(&test, &copy, original.video).await;
        let doomed = if failing == Stage::Transcode {
            complete(&test.db, &original).await;
            claimed(&test.db, test.pool(), original.video, failing).await
        } else {
            original
        };

        test.db.fail(&doomed, FailureCause::Corrupt, "no frame decodes").await.expect("an answer");

        assert!(is_due(&test, &copy).await, "{failing}");
        let copy = claimed(&test.db, test.pool(), copy.video, Stage::DuplicateDetection).await;
        assert_eq!(detect(&test, &copy, BYTES).await, None, "the failed one stepped back");
        test.db.fail(&copy, FailureCause::Corrupt, "end of round").await.expect("an answer");
    }
}

#[tokio::test]
async fn who_would_wait_for_a_video_that_has_ended_looks_again_at_once() {
    let test = database().await;
    let original = ready(&test.db, test.pool()).await;
    let copy = detecting(&test).await;
    wait(&test, &copy, original).await;
    assert!(is_due(&test, &copy).await);

    let gone = detecting(&test).await;
    wait(&test, &gone, VideoId::new()).await;
    assert!(is_due(&test, &gone).await, "no such video");
}

#[tokio::test]
async fn a_sleeper_whose_bell_was_missed_is_woken_by_the_sweep() {
    let test = database().await;
    let original = ready(&test.db, test.pool()).await;
    let copy = detecting(&test).await;
    wait(&test, &copy, original).await;
    // As when the wait and the original's end did not see each other.
    sqlx::query("update jobs set waits_for = $2, run_at = now() + interval '1 hour' where id = $1")
        .bind(copy.job.0)
        .bind(original.0)
        .execute(test.pool())
        .await
        .expect("put to sleep");

    assert_eq!(sweep(&test.db, 3).await, []);

    assert!(is_due(&test, &copy).await);
}

#[tokio::test]
async fn a_wait_ends_by_itself_after_the_poll() {
    let test = database().await;
    let (original, copy) = (detecting(&test).await, detecting(&test).await);
    wait(&test, &copy, original.video).await;
    let_time_pass(test.pool()).await;
    let copy = claimed(&test.db, test.pool(), copy.video, Stage::DuplicateDetection).await;
    assert!(job_row(test.pool(), copy.job).await["waits_for"].is_null());
}

/// An original that nobody compared with another: the first of the size failed between the two claims.
#[tokio::test]
async fn of_two_processed_copies_one_steps_back() {
    let test = database().await;
    let (a, b) = (detecting(&test).await, detecting(&test).await);
    claim_size(&test, &a, 1_000).await;
    for (video, claim) in [(a.video, "first_of_size"), (b.video, "same_size")] {
        sqlx::query(
            "update videos set size_bytes = 1000, original_claim = $2,
                            sha256 = case when $2 = 'same_size' then $3 end where id = $1",
        )
        .bind(video.0)
        .bind(claim)
        .bind(BYTES.as_slice())
        .execute(test.pool())
        .await
        .expect("set");
    }

    finish_all(&test, &a).await;

    assert!(row(test.pool(), a.video).await["original_claim"].is_null());
    let copy = detecting(&test).await;
    let held = BytesClaim::HeldBy { original: b.video, state: VideoState::Processing };
    assert_eq!(detect(&test, &copy, BYTES).await, Some(held), "later copies find the other one");
}

#[tokio::test]
async fn a_source_of_another_size_than_recorded_loses_its_hash_and_claim() {
    let test = database().await;
    let (a, b) = (detecting(&test).await, detecting(&test).await);
    detect(&test, &a, BYTES).await;
    assert_eq!(detect(&test, &b, OTHER_BYTES).await, Some(BytesClaim::Original));
    // B's object was overwritten; now it is as long as a third one.
    let c = detecting(&test).await;
    claim_size(&test, &c, 2_000).await;
    assert_eq!(candidates(claim_size(&test, &b, 2_000).await), [c.video]);
    let row = row(test.pool(), b.video).await;
    assert!(row["sha256"].is_null() && row["original_claim"].is_null());
}
