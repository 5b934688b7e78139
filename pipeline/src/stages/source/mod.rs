//! The source of a video on this host: its bytes in blocks, each fetched once however many stages and children read it.
//! Nothing else of the pipeline reads a source from storage. A crash leaves a file in scratch, which goes with its directory.

mod blocks;
mod digest;
mod fetch;
mod reader;
mod room;
mod shelf;

use std::sync::{Arc, Mutex, Weak};

use blocks::{Blocks, blocking};
pub use reader::SourceReader;
pub use room::Space;
pub(super) use room::{Lack, NoRoom, Promise, Room};
pub use shelf::IdleBudget;
use shelf::{Gone, Shelf, lock};

use super::StageError;
use super::faults::overwritten;
use super::scratch::ScratchFile;
use crate::storage::{ObjectVersion, Storage};
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
            if let Some(shelf) = self.shelf.upgrade() {
                // Ours are not the last: no file is removed under the lock.
                drop(lock(&shelf).give_up(self.source.video, &self.blocks));
            }
            return Err(overwritten().into());
        }
        Ok(sha256)
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.upgrade() {
            let gone = lock(&shelf).put_back(self.source.video, &self.blocks);
            remove(gone);
        }
    }
}

/// The source for one more user: what is here of it, or room for what will be. Whoever drops this while it waits leaves
/// no file: the blocks that are being made go with their answer.
pub(super) async fn open(
    room: &Arc<Room>,
    storage: &Storage,
    source: &Source,
    object: ObjectVersion,
    file: ScratchFile,
) -> Result<SourceFile, StageError> {
    if let Some(here) = Shelf::take(&room.shelf, source, &object) {
        return Ok(here);
    }
    let _one = room.making.lock().await;
    // Somebody else may have made it meanwhile.
    if let Some(here) = Shelf::take(&room.shelf, source, &object) {
        return Ok(here);
    }
    let make = {
        let (room, storage) = (Arc::clone(room), storage.clone());
        move || match room.make(object.size_bytes, 0)? {
            Ok(()) => Blocks::create(storage, object, file).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    };
    match blocking(make).await? {
        Ok(blocks) => Ok(Shelf::put(&room.shelf, source.clone(), blocks)),
        Err(refusal) => {
            room.refused(&refusal);
            Err(refusal.into())
        }
    }
}

/// Removes the files of what left the shelf, off the runtime's threads: a file of many gigabytes takes a while. Nobody
/// waits for it; a process that ends first leaves a directory that the next one removes.
fn remove(gone: Gone) {
    if gone.is_empty() {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(gone))),
        Err(_) => drop(gone),
    }
}
