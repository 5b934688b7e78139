//! Puts frames of the protocol together from whatever a pipe delivers, so that a read can be given up and resumed.
//! Bounds are checked as soon as the lengths are known, before room is made for the frame.

use std::io;

use bytes::{Bytes, BytesMut};

use super::protocol::{Message, decode_lengths};

/// Room that is offered to a read while the length of the frame is not known.
const READ_BYTES: usize = 64 * 1024;
const LENGTHS_BYTES: usize = 8;

/// Bytes that have come and are not yet a frame.
#[derive(Debug, Default)]
pub(super) struct Frames {
    received: BytesMut,
}

impl Frames {
    /// Where a read puts what comes next.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        // Only when full: room for the rest of a frame is made once, when its length is known.
        if self.received.len() == self.received.capacity() {
            self.received.reserve(READ_BYTES);
        }
        &mut self.received
    }

    /// The next frame if it is complete. After an error nothing more can be made of the stream.
    pub(super) fn take(&mut self) -> io::Result<Option<(Message, Bytes)>> {
        let Some(lengths) = self.received.first_chunk::<LENGTHS_BYTES>() else {
            return Ok(None);
        };
        let (header, payload) = decode_lengths(*lengths)?;
        let (header, payload) = (header as usize, payload as usize);
        let total = LENGTHS_BYTES + header + payload;
        if self.received.len() < total {
            self.received.reserve(total - self.received.len());
            return Ok(None);
        }
        let frame = self.received.split_to(total).freeze();
        let message = serde_json::from_slice(&frame[LENGTHS_BYTES..LENGTHS_BYTES + header])?;
        Ok(Some((message, frame.slice(LENGTHS_BYTES + header..))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::protocol::{MAX_PAYLOAD_BYTES, write_frame};

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &Message::Progress { done_ms: 1, total_ms: 2 }, &[]).unwrap();
        write_frame(&mut bytes, &Message::Pcm { start_us: -5 }, b"sound").unwrap();
        bytes
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        for step in [1, 3, 7, 64, 1000] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for chunk in stream().chunks(step) {
                frames.space().extend_from_slice(chunk);
                while let Some(frame) = frames.take().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(
                seen,
                [
                    (Message::Progress { done_ms: 1, total_ms: 2 }, Bytes::new()),
                    (Message::Pcm { start_us: -5 }, Bytes::from_static(b"sound")),
                ],
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_the_frame_comes() {
        let mut frames = Frames::default();
        frames.space().extend_from_slice(&10_u32.to_le_bytes());
        frames.space().extend_from_slice(&(MAX_PAYLOAD_BYTES + 1).to_le_bytes());
        assert!(frames.take().is_err());
        assert!(frames.received.capacity() <= 2 * READ_BYTES);
    }

    #[test]
    fn a_header_that_is_no_message_is_an_error() {
        let mut frames = Frames::default();
        frames.space().extend_from_slice(&3_u32.to_le_bytes());
        frames.space().extend_from_slice(&0_u32.to_le_bytes());
        frames.space().extend_from_slice(b"{}!");
        assert!(frames.take().is_err());
    }
}
