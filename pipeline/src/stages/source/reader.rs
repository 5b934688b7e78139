//! A source as one child reads it: waits for the blocks that it needs, and asks for more at once the longer it reads on.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::blocks::{Awaited, BLOCK_BYTES, Blocks, Disk, LONGEST_RUN, blocking};
use crate::media::{Input, InputError};

/// It does not keep the source: a child that is being ended must not keep a file on scratch.
pub struct SourceReader {
    blocks: Weak<Blocks>,
    size_bytes: u64,
    /// The block that was read last.
    last: Option<u64>,
    /// Blocks in the next request.
    run: u64,
}

impl SourceReader {
    pub(super) fn new(blocks: &Arc<Blocks>) -> Self {
        let size_bytes = blocks.size_bytes();
        blocks.ask(0, 1);
        blocks.ask(size_bytes.saturating_sub(BLOCK_BYTES) / BLOCK_BYTES, 2);
        Self { blocks: Arc::downgrade(blocks), size_bytes, last: None, run: 1 }
    }

    fn ask(&mut self, block: u64) -> Result<Option<Awaited>, InputError> {
        let reads_on = self.last.is_none_or(|last| block == last || block == last + 1);
        if !reads_on {
            self.run = 1;
        }
        self.last = Some(block);
        let awaited = self.blocks()?.ask(block, self.run);
        if awaited.as_ref().is_some_and(|awaited| awaited.begun) {
            self.run = (self.run * 2).min(LONGEST_RUN);
        }
        Ok(awaited)
    }

    fn disk(&self) -> Result<Arc<Disk>, InputError> {
        Ok(Arc::clone(&self.blocks()?.disk))
    }

    fn blocks(&self) -> Result<Arc<Blocks>, InputError> {
        self.blocks.upgrade().ok_or_else(|| InputError::Away("the source was given up".into()))
    }
}

impl Input for SourceReader {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        let last = (offset + u64::from(length)).div_ceil(BLOCK_BYTES);
        for block in offset / BLOCK_BYTES..last {
            if let Some(awaited) = self.ask(block)? {
                awaited.here().await?;
            }
        }
        let disk = self.disk()?;
        blocking(move || disk.read(offset, length as usize)).await
    }
}
