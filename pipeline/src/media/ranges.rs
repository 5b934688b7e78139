//! How the media child asks its parent for bytes of its input. Both speak on the socket that is the child's stdin, after the
//! request frame; all numbers are little endian.
//!
//! The parent says how many bytes there are (`u64`). From then on the child asks, for one range at a time (`u64` offset,
//! `u32` length), and the parent answers with one byte: [`Answer::Bytes`], followed by exactly the bytes that were asked
//! for, or [`Answer::Failed`]. There is no answer that could be taken for the end of the input: the child knows its size.

/// Longest range: what a parent holds in memory for a child.
pub const MAX_RANGE_BYTES: u32 = 1024 * 1024;

/// Bytes of the input that the child wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    pub offset: u64,
    pub length: u32,
}

/// A range that no child of ours asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes at {offset}, of an input of {size_bytes} bytes")]
pub struct BadRange {
    offset: u64,
    length: u32,
    size_bytes: u64,
}

impl ByteRange {
    pub const ENCODED_BYTES: usize = 12;

    #[must_use]
    pub fn encode(self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [0; Self::ENCODED_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Believes nothing: a range is at least one byte, at most [`MAX_RANGE_BYTES`], and inside the input.
    pub fn decode(bytes: [u8; Self::ENCODED_BYTES], size_bytes: u64) -> Result<Self, BadRange> {
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = bytes;
        let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let end = offset.checked_add(u64::from(length));
        if (1..=MAX_RANGE_BYTES).contains(&length) && end.is_some_and(|end| end <= size_bytes) {
            return Ok(Self { offset, length });
        }
        Err(BadRange { offset, length, size_bytes })
    }
}

/// The first byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// What was asked for follows.
    Bytes = 1,
    /// It cannot be read. The parent knows why, and whatever the child says from now on counts less.
    Failed = 2,
}

impl Answer {
    #[must_use]
    pub const fn decode(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Bytes),
            2 => Some(Self::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_inside_the_input_is_understood() {
        for (offset, length, size_bytes) in [(0, 1, 1), (7, 3, 10), (1 << 40, 9, (1 << 40) + 9)] {
            let range = ByteRange { offset, length };
            assert_eq!(ByteRange::decode(range.encode(), size_bytes), Ok(range));
        }
    }

    #[test]
    fn a_range_that_is_empty_too_long_or_beyond_the_end_is_refused() {
        let beyond = [(0, 0), (0, 11), (10, 1), (11, 1), (u64::MAX, 1), (u64::MAX, u32::MAX)];
        for (offset, length) in beyond {
            let range = ByteRange { offset, length };
            assert!(ByteRange::decode(range.encode(), 10).is_err(), "{range:?}");
        }
        let long = ByteRange { offset: 0, length: MAX_RANGE_BYTES + 1 };
        assert!(ByteRange::decode(long.encode(), u64::MAX).is_err());
    }
}
