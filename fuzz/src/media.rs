//! The child protocol, as the parent reads it: whatever comes out of the child's pipe, in whatever pieces.

use std::io::Cursor;

use bytes::Bytes;

#[path = "../../pipeline/src/media/frames.rs"]
mod frames;
#[path = "../../pipeline/src/media/protocol.rs"]
pub mod protocol;

use frames::Frames;
use protocol::{MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, Message, Request, read_frame};

/// What a stream holds: its frames, and whether it ended with one. Else it was cut off, or nonsense.
#[derive(Debug, PartialEq)]
struct Heard {
    frames: Vec<(Message, Bytes)>,
    whole: bool,
}

/// Pieces or whole, a stream says the same, and no frame makes room for more than the bounds allow.
/// The first byte says how large the pieces are; with its lowest bit the rest is framed here, so that the mutations
/// reach the messages and not only the lengths.
pub fn child_protocol(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let framed;
    let stream = if first & 1 == 1 {
        framed = frame(rest);
        &framed
    } else {
        rest
    };
    let whole = read_whole(stream);
    for step in [usize::from(first >> 1) + 1, stream.len().max(1)] {
        assert_eq!(read_pieces(stream, step), whole, "in steps of {step}");
    }
    // The child's side. Its request comes from the parent, but a pipe may break anywhere.
    let mut from = Cursor::new(stream);
    while let Ok(Some(_)) = read_frame::<Request>(&mut from) {}
}

/// Header, payload, header, payload …, parted by a byte that no JSON holds.
fn frame(parts: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut parts = parts.split(|byte| *byte == 0xff);
    while let Some(header) = parts.next() {
        let payload = parts.next().unwrap_or_default();
        for length in [header.len(), payload.len()] {
            stream.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        stream.extend(header);
        stream.extend(payload);
    }
    stream
}

fn read_whole(stream: &[u8]) -> Heard {
    let mut from = Cursor::new(stream);
    let mut frames = Vec::new();
    let whole = loop {
        match read_frame::<Message>(&mut from) {
            Ok(Some((message, payload))) => frames.push((message, payload.into())),
            end => break end.is_ok(),
        }
    };
    Heard { frames, whole }
}

fn read_pieces(stream: &[u8], step: usize) -> Heard {
    // The longest frame, its lengths, and one read ahead.
    let most = (MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES) as usize + 256 * 1024;
    let mut reader = Frames::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(step) {
        reader.space().extend_from_slice(piece);
        loop {
            match reader.take() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return Heard { frames, whole: false },
            }
        }
        let room = reader.space().capacity();
        assert!(room <= most, "{room} bytes of room");
    }
    Heard { whole: reader.space().is_empty(), frames }
}
