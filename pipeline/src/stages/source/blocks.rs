//! The blocks of one object version in one sparse file: which are there, which are coming, and who waits for them.
//!
//! A block is fetched by whoever first misses it, in a task of its own: whoever asks meanwhile waits for the same fetch, and
//! giving up waiting stops nothing for the others. A fetch that failed tells all who wait why; the next who asks fetches
//! again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::digest::{Digest, Hashed};
use super::fetch::{Run, fetch};
use crate::media::InputError;
use crate::stages::faults::scratch_failed;
use crate::stages::scratch::ScratchFile;
use crate::storage::{ObjectVersion, Storage};

pub(super) const BLOCK_BYTES: u64 = 1024 * 1024;
/// Blocks in one request at most.
pub(super) const LONGEST_RUN: u64 = 8;

pub(super) struct Blocks {
    /// Ended first, when this goes.
    fetches: Mutex<JoinSet<()>>,
    pub(super) disk: Arc<Disk>,
    /// Removes the file. What is still being written goes to a file without a name.
    _file: ScratchFile,
}

/// What the fetches share with the readers. It does not keep the file's name.
pub(super) struct Disk {
    pub(super) storage: Storage,
    pub(super) object: ObjectVersion,
    file: File,
    blocks: Mutex<Vec<Block>>,
    digest: Mutex<Digest>,
}

#[derive(Debug, Clone)]
enum Block {
    Missing,
    Coming(watch::Receiver<Run>),
    Here,
}

impl Block {
    /// Also when its fetch failed.
    fn is_missing(&self) -> bool {
        match self {
            Block::Missing => true,
            Block::Coming(run) => Run::has_failed(run),
            Block::Here => false,
        }
    }
}

/// A block that is not here yet.
pub(super) struct Awaited {
    run: watch::Receiver<Run>,
    block: u64,
    /// Whether this question began the fetch.
    pub(super) begun: bool,
}

impl Awaited {
    pub(super) async fn here(mut self) -> Result<(), InputError> {
        let block = self.block;
        let ended = self.run.wait_for(|run| run.until > block || run.failed.is_some()).await;
        match ended.as_deref() {
            Ok(run) if run.until > block => Ok(()),
            Ok(Run { failed: Some(error), .. }) => Err(error.clone()),
            _ => Err(InputError::Away("the source was given up while it was read".into())),
        }
    }
}

impl Blocks {
    /// With all its room, or not at all. To be called off the runtime's threads.
    pub(super) fn create(
        storage: Storage,
        object: ObjectVersion,
        file: ScratchFile,
    ) -> io::Result<Self> {
        let on_disk = File::options().read(true).write(true).create_new(true).open(file.path())?;
        allocate(&on_disk, object.size_bytes)?;
        let count = usize::try_from(object.size_bytes.div_ceil(BLOCK_BYTES));
        let count = count.map_err(|_| io::ErrorKind::FileTooLarge)?;
        let disk = Disk {
            storage,
            object,
            file: on_disk,
            blocks: Mutex::new(vec![Block::Missing; count]),
            digest: Mutex::default(),
        };
        Ok(Self { fetches: Mutex::default(), disk: Arc::new(disk), _file: file })
    }

    /// Whether these are blocks of that object. Of two sizes for one tag storage knows the right one, and says so when
    /// the first block is fetched.
    pub(super) fn of(&self, object: &ObjectVersion) -> bool {
        let own = &self.disk.object;
        (&own.key, &own.etag, own.size_bytes) == (&object.key, &object.etag, object.size_bytes)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.disk.object.size_bytes
    }

    /// Nothing if the block is here. If it is missing, its fetch begins, with up to `run` blocks from there on.
    pub(super) fn ask(&self, block: u64, run: u64) -> Option<Awaited> {
        let mut blocks = self.disk.blocks();
        let index = usize::try_from(block).ok()?;
        match blocks.get(index)? {
            Block::Here => return None,
            missing if missing.is_missing() => {}
            Block::Coming(run) => {
                return Some(Awaited { run: run.clone(), block, begun: false });
            }
            Block::Missing => {}
        }
        let next = (1..run).zip(&blocks[index + 1..]);
        let more = next.take_while(|(_, block)| block.is_missing()).count();
        let (progress, run) = watch::channel(Run { until: block, failed: None });
        blocks[index..=index + more].fill(Block::Coming(run.clone()));
        let wanted = block..block + 1 + more as u64;
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        while fetches.try_join_next().is_some() {}
        fetches.spawn(fetch(Arc::clone(&self.disk), wanted, progress));
        Some(Awaited { run, block, begun: true })
    }

    /// Of the whole object, from the disk; blocks that are missing are fetched.
    pub(super) async fn sha256(&self) -> Result<[u8; 32], InputError> {
        loop {
            let disk = Arc::clone(&self.disk);
            let missing = match blocking(move || disk.hash_on()).await? {
                Hashed::Whole(sha256) => return Ok(sha256),
                Hashed::Until(block) => block,
            };
            if let Some(awaited) = self.ask(missing, LONGEST_RUN) {
                awaited.here().await?;
            }
        }
    }
}

/// From here on the file system keeps this room. One that cannot (NFS before 4.2) gets a sparse file: there a full disk is
/// met while writing, as an outage.
fn allocate(file: &File, size_bytes: u64) -> io::Result<()> {
    if size_bytes == 0 {
        return Ok(());
    }
    let all = || rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_bytes);
    match rustix::io::retry_on_intr(all) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(size_bytes),
        allocated => Ok(allocated?),
    }
}

impl Disk {
    /// Where these blocks lie in the object.
    pub(super) fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(self.object.size_bytes)
    }

    /// To be called off the runtime's threads, as everything below.
    pub(super) fn write(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, block * BLOCK_BYTES)?;
        let index = usize::try_from(block).map_err(io::Error::other)?;
        if let Some(block) = self.blocks().get_mut(index) {
            *block = Block::Here;
        }
        Ok(())
    }

    /// The blocks that these bytes touch must be here.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    /// Hashes what follows on what is hashed, while it is here and for a while.
    pub(super) fn hash_on(&self) -> io::Result<Hashed> {
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        digest.advance(self)
    }

    pub(super) fn is_here(&self, block: u64) -> bool {
        let blocks = self.blocks();
        let block = usize::try_from(block).ok().and_then(|index| blocks.get(index));
        matches!(block, Some(Block::Here))
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a few megabytes to or from the disk: abandoned, it ends by itself, and what it wrote is true"
)]
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, InputError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|error| scratch_failed(&error))
}
