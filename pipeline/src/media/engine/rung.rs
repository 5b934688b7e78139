//! One video rendition, in a thread of its own: takes pictures from the larger rung, makes them smaller, hands them on,
//! encodes them.
//!
//! All rungs encode with the same settings but size and rate, so that the packets of one picture have the same stamps
//! everywhere and groups begin at the same times. A queue that closes without an end means that the work failed
//! elsewhere: then nothing is flushed.

use std::sync::mpsc::{Receiver, SyncSender};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Packet, Rational, codec, color, encoder, format, frame, picture};

use super::assemble::{Coded, Prepared};
use super::error::{Doing, not_now};
use super::fragments::{Fragments, avc_codecs};
use super::ladder::Rung;
use super::picture::{Format, Presenter, Target};
use super::time::VIDEO_HZ;
use super::{EngineError, ffi};
use crate::media::protocol::{Message, RenditionKind};

/// What travels down the ladder.
pub(super) enum Step {
    /// Its time stamp is in ticks of 90 kHz.
    Picture { picture: frame::Video, starts_group: bool },
    /// When the last picture stops being shown.
    End { at: i64 },
}

/// What a rung is told at its start.
pub(super) struct Orders {
    pub(super) track: usize,
    pub(super) rung: Rung,
    /// Of the whole ladder's output, at most 60.
    pub(super) frame_rate: f64,
    pub(super) threads: usize,
    pub(super) pictures: Receiver<Step>,
    pub(super) next: Option<SyncSender<Step>>,
    pub(super) packets: SyncSender<Coded>,
}

/// The body of a rung's thread.
pub(super) fn run(orders: &Orders) -> Result<(), EngineError> {
    let Rung { width, height, .. } = orders.rung;
    let target = Target { width, height, format: Format::Yuv };
    let mut scaler = Presenter::of_presentable(target);
    let mut encoder = None;
    loop {
        match orders.pictures.recv().map_err(|_| EngineError::Stopped)? {
            Step::Picture { picture, starts_group } => {
                let picture = if (picture.width(), picture.height()) == (width, height) {
                    picture
                } else {
                    scaler.present(&picture)?
                };
                orders.hand_on(|| {
                    let picture = ffi::share(&picture).doing("share a picture")?;
                    Ok(Step::Picture { picture, starts_group })
                })?;
                let encoder = match &mut encoder {
                    Some(encoder) => encoder,
                    none => none.insert(orders.open()?),
                };
                orders.encode(encoder, picture, starts_group)?;
            }
            Step::End { at } => {
                orders.hand_on(|| Ok(Step::End { at }))?;
                if let Some(encoder) = &mut encoder {
                    encoder.send_eof().doing("end the video encoder")?;
                    orders.send_packets(encoder)?;
                }
                return orders.send(Coded::End { track: orders.track, at });
            }
        }
    }
}

impl Orders {
    fn hand_on(&self, step: impl FnOnce() -> Result<Step, EngineError>) -> Result<(), EngineError> {
        match &self.next {
            Some(next) => next.send(step()?).map_err(|_| EngineError::Stopped),
            None => Ok(()),
        }
    }

    fn send(&self, coded: Coded) -> Result<(), EngineError> {
        self.packets.send(coded).map_err(|_| EngineError::Stopped)
    }

    fn encode(
        &self,
        encoder: &mut encoder::video::Encoder,
        mut picture: frame::Video,
        starts_group: bool,
    ) -> Result<(), EngineError> {
        // The decoder's own picture types must not reach the encoder: it would take them as orders.
        let kind = if starts_group { picture::Type::I } else { picture::Type::None };
        picture.set_kind(kind);
        encoder.send_frame(&picture).doing("encode a picture")?;
        self.send_packets(encoder)
    }

    fn send_packets(&self, encoder: &mut encoder::video::Encoder) -> Result<(), EngineError> {
        loop {
            let mut packet = Packet::empty();
            match encoder.receive_packet(&mut packet) {
                Ok(()) => self.send(Coded::Packet { track: self.track, packet })?,
                Err(error) if not_now(error) => return Ok(()),
                Err(error) => return Err(EngineError::internal("encode a picture", error)),
            }
        }
    }

    /// Opens the encoder, and announces the rendition.
    fn open(&self) -> Result<encoder::video::Encoder, EngineError> {
        let encoder = self.open_encoder().doing("open the video encoder")?;
        let codecs = avc_codecs(&ffi::extradata(&encoder))?;
        let hz = i32::try_from(VIDEO_HZ).unwrap_or(i32::MAX);
        let (fragments, init) = Fragments::new(&encoder, hz)?;
        let Rung { name, width, height, max_rate } = self.rung;
        let message = Message::Init {
            rendition: name.into(),
            codecs,
            kind: RenditionKind::Video { width, height, frame_rate: self.frame_rate },
            planned_bits_per_second: max_rate + max_rate / 10,
        };
        self.send(Coded::Ready {
            track: self.track,
            prepared: Prepared { fragments, message, init },
        })?;
        Ok(encoder)
    }

    fn open_encoder(&self) -> Result<encoder::video::Encoder, ffmpeg::Error> {
        let codec = encoder::find_by_name("libx264").ok_or(ffmpeg::Error::EncoderNotFound)?;
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(codec::Flags::GLOBAL_HEADER | codec::Flags::CLOSED_GOP);
        context.set_time_base(Rational(1, i32::try_from(VIDEO_HZ).unwrap_or(i32::MAX)));
        context.set_frame_rate(Some(Rational::from(self.frame_rate)));
        let max_rate = self.rung.max_rate.to_string();
        let buffer = (self.rung.max_rate * 2).to_string();
        let threads = self.threads.to_string();
        for (name, value) in [
            ("preset", "veryfast"),
            ("profile", "high"),
            ("crf", "23"),
            ("maxrate", &max_rate),
            ("bufsize", &buffer),
            ("threads", &threads),
            ("forced-idr", "1"),
            // Groups begin where the pacer says and nowhere else.
            ("g", "100000"),
            ("x264-params", "scenecut=0"),
        ] {
            ffi::set_option(&mut context, name, value)?;
        }
        let mut video = context.encoder().video()?;
        video.set_width(self.rung.width);
        video.set_height(self.rung.height);
        video.set_format(format::Pixel::YUV420P);
        video.set_aspect_ratio(Rational(1, 1));
        video.set_color_range(color::Range::MPEG);
        // What every presentable picture is.
        video.set_colorspace(color::Space::BT709);
        video.set_color_primaries(color::Primaries::BT709);
        video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
        video.open_as(codec)
    }
}
