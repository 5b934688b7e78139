//! The packets of the chosen streams, in order, on one time line. Reading says when it fails: libav's own iterator shows
//! every error as the end of the file.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, Rational, Stream, media};

use super::budget::Budget;
use super::orientation::Orientation;
use super::time::{MICROSECONDS, from_base};
use super::timeline::{Stamps, Timeline};
use super::{EngineError, RemoteFile, declared, ffi, limits, open};
use crate::media::protocol::Limits;
use crate::video::{FailureCause, MediaFacts};

/// Damaged packets in a row after which nothing more is expected.
const MOST_DAMAGED: u32 = 1_000;

/// One of the chosen streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) index: usize,
    pub(super) base: Rational,
}

/// The picture stream, with what decoded pictures do not say themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChosenPicture {
    pub(super) stream: Chosen,
    pub(super) orientation: Orientation,
    /// The container's word for the shape of a pixel, else the codec's.
    pub(super) pixel_aspect: Rational,
    pub(super) frame_rate: f64,
}

/// Which stream a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Track {
    Picture,
    Sound,
}

pub(super) struct Source {
    input: Input,
    budget: Budget,
    /// How far the packets of picture and sound reach.
    reached_us: [i64; 2],
    /// None: times stay as they are in the file.
    timeline: Option<Timeline>,
    pub(super) facts: MediaFacts,
    pub(super) picture: Option<ChosenPicture>,
    pub(super) sound: Option<Chosen>,
    /// What the container promises, in microseconds; none where it is only a guess.
    pub(super) declared_us: Option<i64>,
}

impl Source {
    pub(super) fn open(file: RemoteFile, bounds: &Limits) -> Result<Self, EngineError> {
        let budget = Budget::new(bounds);
        let mut input = open::open(file, bounds, &budget)?;
        let picture = declared::best(&input, media::Type::Video)?
            .map(|s| declared::choose_picture(&s))
            .transpose()?;
        let sound = declared::best(&input, media::Type::Audio)?.map(|s| declared::choose(&s));
        if picture.is_none() && sound.is_none() {
            return Err(EngineError::refused(
                FailureCause::NoMedia,
                format!("none of the {} streams has a picture or sound", input.nb_streams()),
            ));
        }
        let chosen: Vec<Chosen> = picture.map(|p| p.stream).into_iter().chain(sound).collect();
        ffi::read_only(&mut input, &chosen.iter().map(|c| c.index).collect::<Vec<_>>());
        let declared_us = declared::duration(&input, &chosen);
        let facts = declared::facts(&input, picture.as_ref(), sound, declared_us)?;
        limits::check_declared(&facts, bounds)?;
        let timeline = Some(Timeline::new(2, declared::origin(&input, &chosen)));
        Ok(Self { input, budget, reached_us: [0; 2], timeline, facts, picture, sound, declared_us })
    }

    /// Times as they are in the file, for what we wrote ourselves.
    pub(super) fn with_own_times(self) -> Self {
        Self { timeline: None, ..self }
    }

    /// How far reading is, in microseconds on the time line.
    pub(super) fn position_us(&self) -> i64 {
        self.reached_us.into_iter().max().unwrap_or(0)
    }

    /// How far the packets of the pictures reach, whether they could be decoded or not.
    pub(super) fn pictures_reach_us(&self) -> i64 {
        self.reached_us[0]
    }

    /// Forward jumps of the time stamps that were closed, in microseconds.
    pub(super) fn skipped_us(&self) -> i64 {
        self.timeline.as_ref().map_or(0, Timeline::skipped_us)
    }

    pub(super) fn stream(&self, chosen: Chosen) -> Result<Stream<'_>, EngineError> {
        self.input
            .stream(chosen.index)
            .ok_or_else(|| EngineError::Internal(format!("stream {} is gone", chosen.index)))
    }

    /// The next packet of a chosen stream, its stamps on the common time line; `None` at the end.
    pub(super) fn next_packet(&mut self) -> Result<Option<(Track, Packet)>, EngineError> {
        let packet = self.read_packet();
        // However libav takes it that reading ended, this is why.
        match self.budget.refusal() {
            Some(refusal) => Err(refusal),
            None => packet,
        }
    }

    fn read_packet(&mut self) -> Result<Option<(Track, Packet)>, EngineError> {
        let mut damaged = 0;
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    if let Some(track) = self.track(packet.stream()) {
                        self.correct(track, &mut packet);
                        return Ok(Some((track, packet)));
                    }
                }
                Err(ffmpeg::Error::Eof) => {
                    return match ffi::read_error(&self.input) {
                        Some(error) => Err(EngineError::internal("read the source", error)),
                        None => Ok(None),
                    };
                }
                Err(error) if damaged < MOST_DAMAGED && ffi::read_error(&self.input).is_none() => {
                    damaged += 1;
                    if damaged == MOST_DAMAGED {
                        let text = format!("{damaged} damaged packets in a row, the last: {error}");
                        return Err(EngineError::corrupt(text));
                    }
                }
                Err(error) => return Err(EngineError::internal("read the source", error)),
            }
        }
    }

    fn track(&self, index: usize) -> Option<Track> {
        if self.picture.is_some_and(|p| p.stream.index == index) {
            return Some(Track::Picture);
        }
        self.sound.is_some_and(|s| s.index == index).then_some(Track::Sound)
    }

    fn correct(&mut self, track: Track, packet: &mut Packet) {
        let (slot, base) = match (track, self.picture, self.sound) {
            (Track::Picture, Some(picture), _) => (0, picture.stream.base),
            (Track::Sound, _, Some(sound)) => (1, sound.base),
            _ => return,
        };
        let stamps = Stamps { dts: packet.dts(), pts: packet.pts(), duration: packet.duration() };
        let Some(timeline) = &mut self.timeline else { return };
        let placed = if ffi::is_preroll(packet) {
            timeline.follow(slot, stamps, base)
        } else {
            timeline.place(slot, stamps, base)
        };
        if let Some(at) = placed.dts.or(placed.pts).filter(|_| !ffi::is_preroll(packet)) {
            let at_us = from_base(at, base, MICROSECONDS);
            self.reached_us[slot] = self.reached_us[slot].max(at_us);
        }
        packet.set_dts(placed.dts);
        packet.set_pts(placed.pts);
        packet.set_duration(placed.duration);
    }
}
