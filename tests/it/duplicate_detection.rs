//! The first stage on real objects: what it believes, what it reads, and how it decides.

use std::path::Path;

use pipeline::media::thumbnail;
use pipeline::stage::Stage;
use pipeline::stages::{Outcome, StageError};
use pipeline::storage::{Precondition, StorageKey};
use pipeline::video::{
    BytesClaim, Candidate, FailureCause, SizeClaim, Source, VideoId, VideoState,
};
use sha2::{Digest, Sha256};

use crate::stage_world::{Answers, StageWorld};

const NO_MEDIA_CHILD: &str = "/no/media/is/decoded/here";

async fn detect(
    world: &StageWorld,
    source: &Source,
    answers: Answers,
) -> Result<Outcome, StageError> {
    world.run(source, Stage::DuplicateDetection, 1, Path::new(NO_MEDIA_CHILD), answers).await
}

fn candidate(source: &Source) -> Candidate {
    Candidate {
        video: source.video,
        key: source.key.clone(),
        etag: source.etag.clone(),
        sha256: None,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn cause_of(result: Result<Outcome, StageError>) -> FailureCause {
    match result {
        Err(StageError::Fail { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_of_its_size_is_an_original_that_nobody_reads() {
    let world = StageWorld::new().await;
    let source = world.upload(b"some clip").await;
    let outcome = detect(&world, &source, Answers::default()).await;
    assert!(matches!(outcome, Ok(Outcome::Original { sha256: None })), "{outcome:?}");
    assert_eq!(world.heard().claimed_size, Some(9));
    assert_eq!(world.heard().claimed_bytes, None);
}

#[tokio::test]
async fn an_object_that_is_gone_replaced_or_empty_is_a_failure_with_its_cause() {
    let world = StageWorld::new().await;
    let mut gone = world.upload(b"some clip").await;
    gone.key.push_str(".not-there");
    assert_eq!(
        cause_of(detect(&world, &gone, Answers::default()).await),
        FailureCause::SourceMissing
    );

    let mut replaced = world.upload(b"some clip").await;
    replaced.etag = Some("0123456789abcdef0123456789abcdef".into());
    let result = detect(&world, &replaced, Answers::default()).await;
    assert_eq!(cause_of(result), FailureCause::SourceMissing);

    let empty = world.upload(b"").await;
    assert_eq!(cause_of(detect(&world, &empty, Answers::default()).await), FailureCause::EmptyFile);
    assert_eq!(world.heard().claimed_size, None, "nothing is claimed for what is not believed");
}

/// Refused by what HEAD says: the presigned URL bounds an upload, a copy into the bucket is bounded by nobody.
#[tokio::test]
async fn an_object_over_the_size_limit_is_refused_unread_with_both_numbers() {
    let mut world = StageWorld::new().await;
    world.limits.max_size_bytes = 8;
    let source = world.upload(b"some clip").await;
    let Err(StageError::Fail { cause, detail }) = detect(&world, &source, Answers::default()).await
    else {
        panic!("it was accepted")
    };
    assert_eq!(cause, FailureCause::LimitExceeded);
    assert!(detail.contains("9 bytes") && detail.contains("at most 8"), "{detail}");
    assert_eq!(world.heard().claimed_size, None, "nothing is claimed, nothing is read");
    world.limits.max_size_bytes = 9;
    assert!(detect(&world, &source, Answers::default()).await.is_ok());
}

#[tokio::test]
async fn a_taken_size_is_compared_byte_for_byte() {
    let world = StageWorld::new().await;
    let (same, other, mut gone) = (
        world.upload(b"clip one").await,
        world.upload(b"clip two").await,
        world.upload(b"clip six").await,
    );
    gone.key.push_str(".not-there");
    let source = world.upload(b"clip one").await;
    let known = Candidate { sha256: Some([7; 32]), ..candidate(&gone) };
    let candidates = vec![
        candidate(&same),
        candidate(&other),
        candidate(&gone),
        Candidate { video: VideoId::new(), ..known.clone() },
    ];
    let answers = Answers { size: SizeClaim::Taken(candidates.clone()), ..Answers::default() };
    let outcome = detect(&world, &source, answers).await;
    let own = sha256(b"clip one");
    assert!(matches!(outcome, Ok(Outcome::Original { sha256: Some(sha) }) if sha == own));
    let claimed = world.heard().claimed_bytes.clone().expect("a claim");
    assert_eq!(
        claimed,
        (
            own,
            vec![
                (same.video, own),
                (other.video, sha256(b"clip two")),
                (candidates[3].video, [7; 32])
            ]
        ),
        "read where it can be, believed where it is known, left out where the object is gone"
    );
}

#[tokio::test]
async fn a_copy_of_a_ready_video_is_marked_with_its_poster() {
    let world = StageWorld::new().await;
    let original = world.upload(b"clip one").await;
    let poster = thumbnail::poster(&vec![200; 64 * 48 * 3], 64, 48).expect("a poster");
    let key = StorageKey::Poster { video: original.video };
    world.storage.put(&key, poster.into(), &Precondition::None).await.expect("a PUT");
    let source = world.upload(b"clip one").await;
    let answers = Answers {
        size: SizeClaim::Taken(vec![candidate(&original)]),
        bytes: BytesClaim::HeldBy { original: original.video, state: VideoState::Ready },
    };
    for _ in 0..2 {
        let outcome = detect(&world, &source, answers.clone()).await;
        assert!(
            matches!(outcome, Ok(Outcome::Duplicate { of, .. }) if of == original.video),
            "{outcome:?}"
        );
    }
    let marker = StorageKey::DuplicatePoster { video: source.video }.to_string();
    let stored = world.storage.head(&marker).await.expect("the marker");
    assert_eq!(stored.content_type.as_deref(), Some("image/jpeg"));
    assert!(world.heard().announced.contains(&marker), "written down before it was there");
}

#[tokio::test]
async fn a_copy_of_sound_alone_has_no_poster_to_show() {
    let world = StageWorld::new().await;
    let original = world.upload(b"clip one").await;
    let source = world.upload(b"clip one").await;
    let answers = Answers {
        size: SizeClaim::Taken(vec![candidate(&original)]),
        bytes: BytesClaim::HeldBy { original: original.video, state: VideoState::Ready },
    };
    let outcome = detect(&world, &source, answers).await;
    assert!(matches!(outcome, Ok(Outcome::Duplicate { .. })), "{outcome:?}");
    assert!(world.heard().announced.is_empty());
}

#[tokio::test]
async fn a_copy_of_a_video_in_work_waits_for_it() {
    let world = StageWorld::new().await;
    let original = world.upload(b"clip one").await;
    let source = world.upload(b"clip one").await;
    let answers = Answers {
        size: SizeClaim::Taken(vec![candidate(&original)]),
        bytes: BytesClaim::HeldBy { original: original.video, state: VideoState::Processing },
    };
    let outcome = detect(&world, &source, answers).await;
    assert!(
        matches!(outcome, Ok(Outcome::WaitFor { original: of, .. }) if of == original.video),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_stop_ends_the_stage_without_a_verdict() {
    let world = StageWorld::new().await;
    let source = world.upload(b"clip one").await;
    world.cancelled.cancel();
    let outcome = detect(&world, &source, Answers::default()).await;
    assert!(matches!(outcome, Err(StageError::Stopped)), "{outcome:?}");
}
