//! SHA-256 of an object that arrives in any order: advances over the blocks that follow on what is hashed already, and reads
//! them from the disk, where they have just been written.

use std::io;

use sha2::{Digest as _, Sha256};

use super::blocks::{BLOCK_BYTES, Disk};

/// Blocks in one go: some ten milliseconds.
const AT_ONCE: u64 = 16;

#[derive(Default)]
pub(super) struct Digest {
    hash: Sha256,
    /// The first block that is not in it.
    next: u64,
    whole: Option<[u8; 32]>,
}

/// How far it came.
pub(super) enum Hashed {
    /// This block is next. It may be here: one call does not hash everything.
    Until(u64),
    Whole([u8; 32]),
}

impl Digest {
    pub(super) fn advance(&mut self, disk: &Disk) -> io::Result<Hashed> {
        if let Some(whole) = self.whole {
            return Ok(Hashed::Whole(whole));
        }
        let count = disk.object.size_bytes.div_ceil(BLOCK_BYTES);
        let stop = count.min(self.next + AT_ONCE);
        while self.next < stop && disk.is_here(self.next) {
            let bytes = disk.bytes_of(&(self.next..self.next + 1));
            let length = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
            self.hash.update(disk.read(bytes.start, length)?);
            self.next += 1;
        }
        if self.next < count {
            return Ok(Hashed::Until(self.next));
        }
        let whole = self.hash.finalize_reset().into();
        self.whole = Some(whole);
        Ok(Hashed::Whole(whole))
    }
}
