//! Packets of all renditions become segments and messages. The only thread that speaks while a transcode runs.
//!
//! - Nothing is written before every rendition has its first packet: only then is the one constant known by which all
//!   are shifted, so that the smallest dts is not negative and no rendition moves against another.
//! - Video is cut at the first group at or after 2 s, 4 s and every 4 s from there; sound at the first AAC frame at or
//!   after the same times. So the numbers of all renditions mean the same times.
//! - Durations are differences of presentation times, the last one by the end that the pacer knows: what the packets say
//!   themselves is a guess.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Receiver;

use ffmpeg_next::Packet;

use super::fragments::Fragments;
use super::time::{MICROSECONDS, VIDEO_HZ, ticks};
use super::{EngineError, Speaker};
use crate::media::protocol::Message;

/// The first cut comes early, so that there is something to play early.
const FIRST_CUT: i64 = 2 * VIDEO_HZ;
const CUT_EVERY: i64 = 4 * VIDEO_HZ;
/// The shift is a whole number of milliseconds, which every clock here can say exactly.
const SHIFT_HZ: i64 = 1000;
/// Bytes held back at most while a rendition has not begun.
const MOST_HELD_BYTES: usize = 64 * 1024 * 1024;

/// What the encoders send.
pub(super) enum Coded {
    Ready {
        track: usize,
        prepared: Prepared,
    },
    Packet {
        track: usize,
        packet: Packet,
    },
    /// A rendition is complete; its last picture or sample is shown until `at`, in ticks of 90 kHz.
    End {
        track: usize,
        at: i64,
    },
    /// To be said as it is.
    Say {
        message: Message,
        payload: Vec<u8>,
    },
}

/// An opened rendition.
pub(super) struct Prepared {
    pub(super) fragments: Fragments,
    pub(super) message: Message,
    pub(super) init: Vec<u8>,
}

/// How far the reading side is.
pub(super) struct Position {
    pub(super) decoded_us: AtomicI64,
    pub(super) total_us: i64,
}

/// What the assembler knows of a rendition before it begins.
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// Ticks per second of its packets.
    pub(super) hz: i64,
    /// Sound may be cut at every packet, video at groups only.
    pub(super) cut_anywhere: bool,
}

/// Runs until every sender is gone. A missing end of a rendition is not an error here: whoever failed says why.
pub(super) fn run(
    plans: Vec<Plan>,
    position: &Position,
    coded: Receiver<Coded>,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    let tracks = plans.into_iter().map(Track::new).collect();
    let mut assembler = Assembler { tracks, shift_ms: None, position, speaker };
    // The queue is owned here: when this ends early, whoever still sends finds out.
    coded.into_iter().try_for_each(|coded| assembler.take(coded))
}

struct Assembler<'a, 'b> {
    tracks: Vec<Track>,
    shift_ms: Option<i64>,
    position: &'a Position,
    speaker: &'a mut Speaker<'b>,
}

impl Assembler<'_, '_> {
    fn take(&mut self, coded: Coded) -> Result<(), EngineError> {
        match coded {
            Coded::Say { message, payload } => self.speaker.say(&message, &payload),
            Coded::Ready { track, prepared } => {
                self.speaker.say(&prepared.message, &prepared.init)?;
                self.tracks[track].fragments = Some(prepared.fragments);
                Ok(())
            }
            Coded::Packet { track, packet } => {
                self.tracks[track].waiting.push_back(packet);
                self.write_waiting()?;
                let Position { decoded_us, total_us } = self.position;
                self.speaker.say_progress(decoded_us.load(Ordering::Relaxed), *total_us)
            }
            Coded::End { track, at } => {
                self.tracks[track].ends_at = Some(at);
                self.write_waiting()
            }
        }
    }

    /// Writes what waits, once the shift is known.
    fn write_waiting(&mut self) -> Result<(), EngineError> {
        let Some(shift_ms) = self.shift_ms.or_else(|| self.find_shift()) else {
            let held: usize = self.tracks.iter().map(Track::held_bytes).sum();
            if held > MOST_HELD_BYTES {
                return Err(EngineError::limit(
                    "picture and sound begin too far apart to be played together",
                ));
            }
            return Ok(());
        };
        self.shift_ms = Some(shift_ms);
        for track in &mut self.tracks {
            track.write_waiting(shift_ms, self.speaker)?;
        }
        Ok(())
    }

    fn find_shift(&self) -> Option<i64> {
        let mut earliest = 0;
        for track in &self.tracks {
            match track.waiting.front() {
                Some(first) => {
                    let dts = first.dts().or(first.pts()).unwrap_or(0);
                    // Rounded down to a whole millisecond, so that the shift is never too small.
                    earliest = earliest.min((dts * SHIFT_HZ).div_euclid(track.plan.hz));
                }
                None if track.ends_at.is_some() => {}
                None => return None,
            }
        }
        Some(-earliest)
    }
}

struct Track {
    plan: Plan,
    fragments: Option<Fragments>,
    waiting: VecDeque<Packet>,
    /// The packet whose duration is known when the next one comes.
    last: Option<Packet>,
    number: u32,
    segment_start: i64,
    next_cut: i64,
    ends_at: Option<i64>,
    ended: bool,
}

impl Track {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            fragments: None,
            waiting: VecDeque::new(),
            last: None,
            number: 1,
            segment_start: 0,
            next_cut: FIRST_CUT,
            ends_at: None,
            ended: false,
        }
    }

    fn held_bytes(&self) -> usize {
        self.waiting.iter().map(Packet::size).sum()
    }

    fn write_waiting(
        &mut self,
        shift_ms: i64,
        speaker: &mut Speaker<'_>,
    ) -> Result<(), EngineError> {
        while let Some(packet) = self.waiting.pop_front() {
            self.write(packet, shift_ms, speaker)?;
        }
        match self.ends_at {
            Some(at) if !self.ended => self.end(at, shift_ms, speaker),
            _ => Ok(()),
        }
    }

    fn write(
        &mut self,
        packet: Packet,
        shift_ms: i64,
        speaker: &mut Speaker<'_>,
    ) -> Result<(), EngineError> {
        let (Some(dts), Some(pts)) = (packet.dts(), packet.pts()) else {
            return Err(EngineError::Internal("an encoder made a packet without a time".into()));
        };
        let at = ticks(pts, self.plan.hz, VIDEO_HZ);
        match self.last.take() {
            None => self.segment_start = pts,
            Some(mut last) => {
                last.set_duration(dts - last.dts().unwrap_or(dts));
                self.mux(last, shift_ms)?;
                if at >= self.next_cut && (self.plan.cut_anywhere || packet.is_key()) {
                    self.close(pts, speaker)?;
                    while self.next_cut <= at {
                        let first = self.next_cut == FIRST_CUT;
                        self.next_cut += if first { FIRST_CUT } else { CUT_EVERY };
                    }
                }
            }
        }
        self.last = Some(packet);
        Ok(())
    }

    fn end(
        &mut self,
        at: i64,
        shift_ms: i64,
        speaker: &mut Speaker<'_>,
    ) -> Result<(), EngineError> {
        self.ended = true;
        let Some(mut last) = self.last.take() else { return Ok(()) };
        let end = ticks(at, VIDEO_HZ, self.plan.hz);
        let rest = end - last.pts().unwrap_or(end);
        last.set_duration(rest.max(1));
        self.mux(last, shift_ms)?;
        self.close(end, speaker)
    }

    fn mux(&mut self, mut packet: Packet, shift_ms: i64) -> Result<(), EngineError> {
        let shift = ticks(shift_ms, SHIFT_HZ, self.plan.hz);
        packet.set_dts(packet.dts().map(|dts| dts + shift));
        packet.set_pts(packet.pts().map(|pts| pts + shift));
        self.fragments()?.write(&mut packet)
    }

    /// Ends the segment at `end`, where the next one begins.
    fn close(&mut self, end: i64, speaker: &mut Speaker<'_>) -> Result<(), EngineError> {
        let bytes = self.fragments()?.close()?;
        let start_us = ticks(self.segment_start, self.plan.hz, MICROSECONDS);
        let end_us = ticks(end, self.plan.hz, MICROSECONDS);
        let message = Message::Segment {
            rendition: self.plan.name.into(),
            number: self.number,
            start_us,
            duration_us: end_us - start_us,
        };
        self.number += 1;
        self.segment_start = end;
        speaker.say(&message, &bytes)
    }

    fn fragments(&mut self) -> Result<&mut Fragments, EngineError> {
        let name = self.plan.name;
        self.fragments
            .as_mut()
            .ok_or_else(|| EngineError::Internal(format!("{name} has packets and no muxer")))
    }
}
