//! The child protocol, as the parent reads it: whatever comes out of the child's pipe, in whatever pieces.

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;

#[path = "../../pipeline/src/media/cage/level.rs"]
#[expect(dead_code, reason = "nothing enters a cage here")]
pub mod cage;
#[path = "../../pipeline/src/media/conversation/mod.rs"]
mod conversation;
#[path = "../../pipeline/src/media/frames.rs"]
mod frames;
#[path = "../../pipeline/src/media/protocol.rs"]
pub mod protocol;
#[path = "../../pipeline/src/media/ranges.rs"]
pub mod ranges;

use conversation::Conversation;
use frames::Frames;
use protocol::{Limits, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, Message, Request, Task, read_frame};
use ranges::{Answer, ByteRange, MAX_RANGE_BYTES};

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
    converse(&whole.frames);
    ask(stream);
    // The child's side. Its request comes from the parent, but a pipe may break anywhere.
    let mut from = Cursor::new(stream);
    while let Ok(Some(_)) = read_frame::<Request>(&mut from) {}
}

/// What a stage gets of it, whatever was asked for: no more than the bounds, and no name that is not one of ours.
fn converse(frames: &[(Message, Bytes)]) {
    let sampling = Task::SampleFrames { per_second: 2.0, width: 1, height: 1 };
    for task in [Task::Transcode, Task::ExtractAudio, sampling, Task::CheckSegment] {
        let limits = Limits { max_output_bytes: 1024, ..Limits::default() };
        let mut conversation = Conversation::new(&Request { limits, task });
        let mut bytes = 0;
        for (message, payload) in frames {
            if conversation.hear(message, payload, Duration::from_secs(1)).is_err() {
                break;
            }
            bytes += payload.len();
            assert!(bytes <= 1024);
            if let Message::Init { rendition, .. } | Message::Segment { rendition, .. } = message {
                assert!(["480p", "720p", "1080p", "audio"].contains(&rendition.as_str()));
            }
        }
    }
}

/// What the child asks for while it reads: a range that is taken lies inside the input and is what was asked for.
fn ask(stream: &[u8]) {
    let Some((size_bytes, asked)) = stream.split_first_chunk() else { return };
    let size_bytes = u64::from_le_bytes(*size_bytes);
    for asked in asked.as_chunks().0 {
        let Ok(range) = ByteRange::decode(*asked, size_bytes) else { continue };
        assert!((1..=MAX_RANGE_BYTES).contains(&range.length));
        assert!(u128::from(range.offset) + u128::from(range.length) <= u128::from(size_bytes));
        assert_eq!(range.encode(), *asked);
    }
    if let Some(answer) = stream.first().copied().and_then(Answer::decode) {
        assert_eq!(Some(&(answer as u8)), stream.first());
    }
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
