//! Decoders of untrusted streams. A damaged packet is counted and passed over; "not now" and "no more" are `None`;
//! whether enough was decoded is for the caller to say.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec;
use ffmpeg_next::decoder::Opened;
use ffmpeg_next::{Dictionary, Frame, Packet, Stream};

use super::error::{Doing, not_now};
use super::open::{CODECS, accepted};
use super::{EngineError, ffi};
use crate::media::protocol::Limits;

/// Errors without a single good frame between them, after which a stream is given up.
const MOST_ERRORS_IN_A_ROW: u64 = 10_000;

pub(super) struct Decoder {
    opened: Opened,
    frames: u64,
    errors_in_a_row: u64,
    last_error: Option<ffmpeg::Error>,
    /// A picture was not decoded because of its size.
    oversized: bool,
}

impl Decoder {
    pub(super) fn open(
        stream: &Stream<'_>,
        limits: &Limits,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let mut context =
            codec::Context::from_parameters(stream.parameters()).doing("read a stream's header")?;
        let name = context.id().name();
        let codec = accepted(context.id()).ok_or_else(|| {
            EngineError::Internal(format!("a stream of {name} was chosen, which is not accepted"))
        })?;
        context.set_time_base(stream.time_base());
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(stream.time_base());
        let options: Dictionary = [
            ("max_pixels".to_owned(), limits.max_pixels().to_string()),
            ("threads".to_owned(), threads.max(1).to_string()),
            ("codec_whitelist".to_owned(), CODECS.to_owned()),
        ]
        .into_iter()
        .collect();
        let opened = decoder.open_as_with(codec, options).map_err(|error| {
            EngineError::corrupt(format!("the {name} stream is broken: {error}"))
        })?;
        Ok(Self { opened, frames: 0, errors_in_a_row: 0, last_error: None, oversized: false })
    }

    /// Frames that were decoded so far.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn has_failed(&self) -> bool {
        self.last_error.is_some()
    }

    /// Whether a picture was too large to be decoded, or had no size at all.
    pub(super) fn was_oversized(&self) -> bool {
        self.oversized
    }

    /// The last thing that went wrong, in libav's words.
    pub(super) fn last_error(&self) -> String {
        self.last_error.map_or_else(|| "no error was reported".into(), |error| error.to_string())
    }

    /// Takes a packet, or the end. All frames must have been taken before.
    pub(super) fn feed(&mut self, packet: Option<&Packet>) -> Result<(), EngineError> {
        let sent = match packet {
            Some(packet) => self.opened.send_packet(packet),
            None => self.opened.send_eof(),
        };
        match sent {
            Err(error) if error != ffmpeg::Error::Eof => self.tolerate(error),
            _ => Ok(()),
        }
    }

    /// The next frame, if there is one now.
    pub(super) fn take<F>(&mut self, mut frame: F) -> Result<Option<F>, EngineError>
    where
        F: std::ops::DerefMut<Target = Frame>,
    {
        loop {
            match self.opened.receive_frame(&mut frame) {
                Ok(()) => {
                    self.frames += 1;
                    self.errors_in_a_row = 0;
                    return Ok(Some(frame));
                }
                Err(error) if not_now(error) => return Ok(None),
                Err(error) => self.tolerate(error)?,
            }
        }
    }

    fn tolerate(&mut self, error: ffmpeg::Error) -> Result<(), EngineError> {
        self.last_error = Some(error);
        self.errors_in_a_row += 1;
        self.oversized |= ffi::is_oversized(&self.opened);
        if error == (ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM }) {
            return Err(EngineError::limit("decoding it takes more memory than one file may have"));
        }
        if self.errors_in_a_row > MOST_ERRORS_IN_A_ROW {
            return Err(EngineError::corrupt(format!(
                "{} packets in a row could not be decoded, the last: {error}",
                self.errors_in_a_row
            )));
        }
        Ok(())
    }
}
