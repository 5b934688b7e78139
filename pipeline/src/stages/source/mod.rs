//! The source of a video on this host: its bytes in blocks, each fetched once however many stages and children read it.
//! Nothing else of the pipeline reads a source from storage. A crash leaves a file in scratch, which goes with its directory.

mod blocks;
mod digest;
mod fetch;
mod reader;
mod shelf;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use blocks::Blocks;
pub use reader::SourceReader;
pub use shelf::IdleBudget;
pub(super) use shelf::Shelf;

use super::StageError;
use super::faults::overwritten;
use crate::video::Source;

/// The source, for one user; while there is any, its blocks stay. Dropping it leaves them on the shelf for a while.
pub struct SourceFile {
    source: Source,
    blocks: Arc<Blocks>,
    shelf: Weak<Mutex<Shelf>>,
}

impl SourceFile {
    /// For one child. It reads as long as this is kept. The first and the last MiB are asked for at once: every container
    /// has what must be known first in one of them.
    #[must_use]
    pub fn reader(&self) -> SourceReader {
        SourceReader::new(&self.blocks)
    }

    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.blocks.size_bytes()
    }

    /// Of all bytes; those that nobody has read yet are fetched.
    pub async fn sha256(&self) -> Result<[u8; 32], StageError> {
        let sha256 = self.blocks.sha256().await?;
        // An uploader can forge an ETag, so the same tag is no proof of the same object.
        if self.source.sha256.is_some_and(|expected| expected != sha256) {
            return Err(overwritten().into());
        }
        Ok(sha256)
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        if let Some(shared) = self.shelf.upgrade() {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.put_back(self.source.video, &self.blocks);
        }
    }
}
