//! The thumbnails of a video: the poster, and the ones that say what is going on.
//! They are drawn off the runtime's threads. One that is left behind by a crash is replaced by the next attempt; the one
//! that says "processing" goes after the commit that ends the job, by the worker or by gc.

use bytes::Bytes;

use super::publish::replace;
use super::{StageContext, StageError};
use crate::media::thumbnail::{self, ThumbnailError};
use crate::storage::{StorageError, StorageKey};
use crate::video::VideoId;

/// More than any poster of ours.
const MAX_POSTER_BYTES: u64 = 16 * 1024 * 1024;

/// From the first good picture of a source: what people see while the rest is made, and the poster.
pub(super) async fn publish(
    context: &StageContext,
    rgb: Bytes,
    width: u32,
    height: u32,
) -> Result<(), StageError> {
    let video = context.lease.video;
    let (processing, poster) = drawn(move || {
        let processing = thumbnail::processing(&rgb, width, height)?;
        Ok((processing, thumbnail::poster(&rgb, width, height)?))
    })
    .await?
    .map_err(|error| StageError::internal(error.to_string()))?;
    replace(context, &StorageKey::ProcessingPoster { video }, processing.into()).await?;
    replace(context, &StorageKey::Poster { video }, poster.into()).await
}

/// Marks a video as a copy of another, whose poster it shows. An original without pictures has none to show.
pub(super) async fn mark_duplicate(
    context: &StageContext,
    original: VideoId,
) -> Result<(), StageError> {
    let key = StorageKey::Poster { video: original }.to_string();
    let poster = match context.tools.storage.get(&key, MAX_POSTER_BYTES).await {
        Ok((poster, _)) => poster,
        Err(StorageError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(StageError::of_storage(error)),
    };
    let video = context.lease.video;
    match drawn(move || thumbnail::duplicate(&poster)).await? {
        Ok(marker) => replace(context, &StorageKey::DuplicatePoster { video }, marker.into()).await,
        // The bytes are the same whether or not the mark can be drawn.
        Err(error) => {
            tracing::warn!(video.id = %video, original.id = %original, %error, "the duplicate has no thumbnail");
            Ok(())
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tens of milliseconds of arithmetic on bytes of its own: abandoned, it ends by itself and changes nothing"
)]
async fn drawn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ThumbnailError> + Send + 'static,
) -> Result<Result<T, ThumbnailError>, StageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StageError::internal(format!("a thumbnail was not drawn: {error}")))
}
