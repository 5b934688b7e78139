//! One request for a run of blocks: each is told to those who wait as soon as it is on disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::blocks::{Disk, blocking};
use crate::media::InputError;
use crate::stages::faults::source_failed;

/// How far a run has come.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The blocks of the run before this one are here.
    pub(super) until: u64,
    pub(super) failed: Option<InputError>,
}

impl Run {
    /// Whether nothing comes any more: it said so, or its task is gone.
    pub(super) fn has_failed(run: &watch::Receiver<Run>) -> bool {
        run.has_changed().is_err() || run.borrow().failed.is_some()
    }
}

pub(super) async fn fetch(disk: Arc<Disk>, blocks: Range<u64>, progress: watch::Sender<Run>) {
    if let Err(error) = fetch_blocks(&disk, blocks, &progress).await {
        tracing::debug!(%error, key = %disk.object.key, "a fetch failed");
        progress.send_modify(|run| run.failed = Some(error));
    } else {
        // What nobody waits for, so that little is left to do when somebody asks. A disk that cannot be read is found then.
        let ended = blocking(move || disk.hash_on()).await;
        drop(ended);
    }
}

async fn fetch_blocks(
    disk: &Arc<Disk>,
    blocks: Range<u64>,
    progress: &watch::Sender<Run>,
) -> Result<(), InputError> {
    let mut range = disk.storage.read(&disk.object, disk.bytes_of(&blocks));
    let mut received = BytesMut::new();
    for block in blocks {
        let wanted = disk.bytes_of(&(block..block + 1));
        let length = usize::try_from(wanted.end - wanted.start).unwrap_or(usize::MAX);
        while received.len() < length {
            match range.chunk().await.map_err(source_failed)? {
                Some(chunk) => received.extend_from_slice(&chunk),
                None => return Err(InputError::Away("a range ended before its end".into())),
            }
        }
        let (disk, bytes): (_, Bytes) = (Arc::clone(disk), received.split_to(length).freeze());
        blocking(move || disk.write(block, &bytes)).await?;
        progress.send_modify(|run| run.until = block + 1);
    }
    Ok(())
}
