//! Where the bytes come from that a media child parses: its parent has them, or can get them.
//! An input never ends early without saying so: a short one would pass for a truncated file.

use bytes::Bytes;

use crate::video::FailureCause;

/// Why bytes of an input cannot be had. Whoever has the input knows, and what it says goes before the child's complaint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// No other try can help. The cause and the detail are stored and shown.
    #[error("{detail}")]
    Lost { cause: FailureCause, detail: String },
    /// A dependency is away; no fault of the input.
    #[error("{0}")]
    Away(String),
}

/// What one child reads, at any place and in any order.
pub trait Input: Send + 'static {
    fn size_bytes(&self) -> u64;

    /// Exactly these bytes. The range is never empty, never beyond the end, and at most
    /// [`MAX_RANGE_BYTES`](super::ranges::MAX_RANGE_BYTES) long.
    fn read(
        &mut self,
        offset: u64,
        length: u32,
    ) -> impl Future<Output = Result<Bytes, InputError>> + Send;
}

/// Something of our own making, small enough for memory.
impl Input for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        let beyond = || InputError::Away(format!("no {length} bytes at {offset} in memory"));
        let start = usize::try_from(offset).map_err(|_| beyond())?;
        let end = start.checked_add(length as usize).filter(|end| *end <= self.len());
        Ok(Bytes::copy_from_slice(&self[start..end.ok_or_else(beyond)?]))
    }
}
