//! Stage 1: is the object what the event said, and has its owner uploaded the same bytes before?
//! Only a taken size costs reading: the first of its size is an original, and nothing of it is read here.
//! It decides nothing by itself: claims are rows, so of two identical uploads in the same instant one is the original.

use super::{Outcome, StageContext, StageError, posters};
use crate::storage::StorageError;
use crate::video::{BytesClaim, Candidate, FailureCause, SizeClaim, Source, VideoId, VideoState};

pub(super) async fn run(context: &StageContext) -> Result<Outcome, StageError> {
    context.unless_stopped(detect(context)).await
}

async fn detect(context: &StageContext) -> Result<Outcome, StageError> {
    let object = believe(context).await?;
    let SizeClaim::Taken(candidates) = context.claim_size(object.size_bytes).await? else {
        return Ok(Outcome::Original { sha256: None });
    };
    let sha256 = match context.source.sha256 {
        Some(known) => known,
        None => hash_of_source(context, &object).await?,
    };
    let hashes = hashes_of(context, &candidates, object.size_bytes).await?;
    match context.claim_bytes(sha256, hashes).await? {
        BytesClaim::Original => Ok(Outcome::Original { sha256: Some(sha256) }),
        BytesClaim::HeldBy { original, state: VideoState::Ready } => {
            posters::mark_duplicate(context, original).await?;
            Ok(Outcome::Duplicate { of: original, sha256 })
        }
        BytesClaim::HeldBy { original, state: _ } => Ok(Outcome::WaitFor { original, sha256 }),
    }
}

/// The source as storage has it now.
struct Object {
    size_bytes: u64,
    etag: String,
}

/// HEAD before belief: `ETag`, size and time of an event can be forged, and the object may be another by now.
async fn believe(context: &StageContext) -> Result<Object, StageError> {
    let source = &context.source;
    let found = context.tools.storage.head(&source.key).await.map_err(StageError::of_source)?;
    if source.etag.as_ref().is_some_and(|etag| *etag != found.etag) {
        let another = StorageError::PreconditionFailed(source.key.clone());
        return Err(StageError::of_source(another));
    }
    if found.size_bytes == 0 {
        return Err(StageError::Fail {
            cause: FailureCause::EmptyFile,
            detail: "the uploaded object has 0 bytes".into(),
        });
    }
    let most = context.tools.media.limits().max_size_bytes;
    if found.size_bytes > most {
        return Err(StageError::Fail {
            cause: FailureCause::LimitExceeded,
            detail: format!(
                "the uploaded object has {} bytes, at most {most} are accepted",
                found.size_bytes
            ),
        });
    }
    Ok(Object { size_bytes: found.size_bytes, etag: found.etag })
}

async fn hash_of_source(context: &StageContext, object: &Object) -> Result<[u8; 32], StageError> {
    let source = Source {
        etag: Some(object.etag.clone()),
        size_bytes: Some(object.size_bytes),
        ..context.source.clone()
    };
    // What is read here stays for the stages that follow.
    context.tools.scratch.source(&context.tools.storage, &source).await?.sha256().await
}

/// What is known of the originals of that size, or can be read. One whose object is gone cannot be compared any more.
async fn hashes_of(
    context: &StageContext,
    candidates: &[Candidate],
    size_bytes: u64,
) -> Result<Vec<(VideoId, [u8; 32])>, StageError> {
    let mut hashes = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let known = match candidate.sha256 {
            Some(known) => Ok(known),
            None => hash_of(context, candidate, size_bytes).await,
        };
        match known {
            Ok(sha256) => hashes.push((candidate.video, sha256)),
            Err(error @ StageError::Fail { .. }) => {
                tracing::info!(video.id = %context.lease.video, candidate.id = %candidate.video, %error, "not compared");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(hashes)
}

/// By the bytes that its own stages read, if they are on this host.
async fn hash_of(
    context: &StageContext,
    candidate: &Candidate,
    size_bytes: u64,
) -> Result<[u8; 32], StageError> {
    let source = Source {
        video: candidate.video,
        key: candidate.key.clone(),
        etag: candidate.etag.clone(),
        version_id: None,
        size_bytes: Some(size_bytes),
        sha256: None,
    };
    context.tools.scratch.source(&context.tools.storage, &source).await?.sha256().await
}
