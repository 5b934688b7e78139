//! One time line for the chosen streams, from time stamps that nobody guarantees.
//!
//! - Common zero: one origin is taken from all streams, so that they keep their distance.
//! - A clock that jumps (back by more than 1 s, or ahead by more than 10 s of where any stream is) is a new clock, and
//!   goes on where its stream was: a damaged time stamp must not become an hour of filling. A stream that jumps later
//!   takes over the clock that fits, so that the streams keep their distance over the jump too, in whatever order
//!   their packets come; and a single damaged stamp is forgotten with the next packet.
//! - A pts more than 10 s from its dts is dropped; a duration over 10 s counts as unknown.
//!
//! Gaps up to 10 s stay, and longer ones that other streams run through: they are what the recording says.

use ffmpeg_next::Rational;

use super::time::{MICROSECONDS, from_base, to_base};

/// Nothing longer is believed.
const BOUND_US: i64 = 10 * MICROSECONDS;
/// A packet so close to where it should be is on its clock.
const NEAR_US: i64 = MICROSECONDS;
/// Clocks that are remembered: the present ones, and one that a damaged stamp may have replaced.
const CLOCKS: usize = 3;

/// The stamps of one packet, in its stream's time base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamps {
    pub(super) dts: Option<i64>,
    pub(super) pts: Option<i64>,
    pub(super) duration: i64,
}

#[derive(Debug)]
pub(super) struct Timeline {
    tracks: Vec<Track>,
    /// What was taken from the stamps lately, newest last; empty until the first packet of a file without a start.
    clocks_us: Vec<i64>,
    skipped_us: i64,
}

#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
struct Track {
    /// Taken from its time stamps, in microseconds.
    offset_us: Option<i64>,
    /// Where its next packet should be, on the corrected line.
    expected_us: Option<i64>,
    /// The same if the last gap was only a damaged stamp.
    without_gap_us: Option<i64>,
}

impl Track {
    fn fits(&self, line_us: i64) -> bool {
        let near = |at: i64| line_us.saturating_sub(at).saturating_abs() <= NEAR_US;
        self.expected_us.is_some_and(near) || self.without_gap_us.is_some_and(near)
    }

    fn advance(&mut self, line_us: i64, step_us: i64) {
        let gap = self.expected_us.filter(|at| line_us.saturating_sub(*at) > NEAR_US);
        let returned = self.expected_us.is_some_and(|at| at.saturating_sub(line_us) > NEAR_US);
        self.without_gap_us = match (gap, returned) {
            (Some(before), _) => Some(before),
            (None, true) => None,
            (None, false) => self.without_gap_us,
        };
        self.without_gap_us = self.without_gap_us.map(|at| at.saturating_add(step_us));
        self.expected_us = Some(line_us.saturating_add(step_us));
    }
}

impl Timeline {
    /// For `streams` streams whose earliest declared start is `origin_us`.
    pub(super) fn new(streams: usize, origin_us: Option<i64>) -> Self {
        Self {
            tracks: vec![Track::default(); streams],
            clocks_us: origin_us.into_iter().collect(),
            skipped_us: 0,
        }
    }

    /// Forward jumps that were closed.
    pub(super) fn skipped_us(&self) -> i64 {
        self.skipped_us
    }

    /// The stamps of the next packet of `stream`, corrected.
    pub(super) fn place(&mut self, stream: usize, stamps: Stamps, base: Rational) -> Stamps {
        let duration_us = from_base(stamps.duration, base, MICROSECONDS);
        let duration_ok = (0..=BOUND_US).contains(&duration_us);
        let duration = if duration_ok { stamps.duration } else { 0 };
        let Some(at) = stamps.dts.or(stamps.pts) else {
            return Stamps { duration, ..stamps };
        };
        let at_us = from_base(at, base, MICROSECONDS);
        let offset_us = self.offset(stream, at_us);
        let step_us = if duration_ok { duration_us } else { 0 };
        let track = &mut self.tracks[stream];
        track.offset_us = Some(offset_us);
        track.advance(at_us.saturating_sub(offset_us), step_us);
        Self::shifted(Stamps { duration, ..stamps }, at, offset_us, base)
    }

    /// The stamps of a packet that is decoded and not shown: what comes before an edit. It says nothing about the clock.
    pub(super) fn follow(&mut self, stream: usize, stamps: Stamps, base: Rational) -> Stamps {
        let Some(at) = stamps.dts.or(stamps.pts) else { return stamps };
        let offset_us = self.tracks[stream].offset_us.or(self.clocks_us.last().copied());
        Self::shifted(stamps, at, offset_us.unwrap_or(0), base)
    }

    fn shifted(stamps: Stamps, at: i64, offset_us: i64, base: Rational) -> Stamps {
        let offset = to_base(offset_us, base);
        let close = |pts: &i64| {
            let lead = from_base(pts.saturating_sub(at), base, MICROSECONDS);
            (-BOUND_US..=BOUND_US).contains(&lead)
        };
        Stamps {
            dts: stamps.dts.map(|dts| dts.saturating_sub(offset)),
            pts: stamps.pts.filter(close).map(|pts| pts.saturating_sub(offset)),
            duration: stamps.duration,
        }
    }

    /// What to take from a stamp of `stream`: its own clock, one that fits better, or a fresh one.
    fn offset(&mut self, stream: usize, at_us: i64) -> i64 {
        let track = self.tracks[stream];
        let Some(newest) = self.clocks_us.last().copied() else {
            self.clocks_us.push(at_us);
            return at_us;
        };
        let own = track.offset_us.unwrap_or(newest);
        let line = |offset: i64| at_us.saturating_sub(offset);
        let known = std::iter::once(own).chain(self.clocks_us.iter().rev().copied());
        if let Some(fitting) = known.into_iter().find(|offset| track.fits(line(*offset))) {
            let jump = fitting.saturating_sub(own);
            // Back on a clock that was there before: nothing was jumped over after all.
            self.skipped_us = self.skipped_us.saturating_add(jump.min(0)).max(0);
            return fitting;
        }
        let latest = self.tracks.iter().filter_map(|track| track.expected_us).max();
        let earliest = track.expected_us.map_or(-BOUND_US, |at| at.saturating_sub(NEAR_US));
        if (earliest..=latest.unwrap_or(0).saturating_add(BOUND_US)).contains(&line(own)) {
            return own;
        }
        let expected = track.expected_us.or(latest).unwrap_or(0);
        let fresh = at_us.saturating_sub(expected);
        self.skipped_us = self.skipped_us.saturating_add(fresh.saturating_sub(own).max(0));
        self.clocks_us.push(fresh);
        if self.clocks_us.len() > CLOCKS {
            self.clocks_us.remove(0);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Rational = Rational(1, 1000);

    fn at(ms: i64) -> Stamps {
        Stamps { dts: Some(ms), pts: Some(ms), duration: 40 }
    }

    /// Where each packet (stream, milliseconds) ends up.
    fn placed(line: &mut Timeline, packets: &[(usize, i64)]) -> Vec<i64> {
        packets.iter().map(|(stream, ms)| line.place(*stream, at(*ms), MS).dts.unwrap()).collect()
    }

    #[test]
    fn streams_keep_their_distance_after_the_common_zero() {
        let mut line = Timeline::new(2, Some(30_000_000));
        assert_eq!(placed(&mut line, &[(0, 30_000), (1, 30_045)]), [0, 45]);
    }

    #[test]
    fn a_gap_of_five_seconds_stays_and_one_of_an_hour_is_closed_for_all_streams() {
        let mut line = Timeline::new(2, Some(0));
        let packets = [
            (0, 0),
            (1, 10),
            (0, 5_040),
            (1, 5_050),
            (0, 3_605_080),
            (1, 3_605_090),
            (0, 3_605_120),
        ];
        assert_eq!(placed(&mut line, &packets), [0, 10, 5_040, 5_050, 5_080, 5_090, 5_120]);
        assert_eq!(line.skipped_us(), 3_600_000_000);
    }

    #[test]
    fn a_stream_that_is_silent_while_the_other_runs_comes_back_at_its_time() {
        let mut line = Timeline::new(2, Some(0));
        placed(&mut line, &[(1, 0)]);
        placed(&mut line, &(0..750).map(|n| (0, n * 40)).collect::<Vec<_>>());
        assert_eq!(
            placed(&mut line, &[(1, 30_000), (0, 30_000), (1, 30_040)]),
            [30_000, 30_000, 30_040]
        );
        assert_eq!(line.skipped_us(), 0);
    }

    #[test]
    fn a_clock_that_starts_again_goes_on_where_it_was_in_whatever_order_the_streams_do() {
        let mut line = Timeline::new(2, Some(90_000_000));
        assert_eq!(placed(&mut line, &[(0, 90_000), (1, 90_010), (0, 90_040)]), [0, 10, 40]);
        let second: Vec<(usize, i64)> =
            (2..100).flat_map(|n| [(0, 90_000 + n * 40), (1, 89_970 + n * 40)]).collect();
        placed(&mut line, &second);
        // The first stream begins again while the second still has a packet of before.
        let again = [(0, 60_000), (1, 93_970), (0, 60_040), (1, 60_010), (1, 60_050), (0, 60_080)];
        assert_eq!(placed(&mut line, &again), [4_000, 3_970, 4_040, 4_010, 4_050, 4_080]);
        // And by less than ten seconds.
        let less = [(1, 58_000), (0, 60_120), (0, 57_990), (1, 58_040)];
        assert_eq!(placed(&mut line, &less), [4_090, 4_120, 4_080, 4_130]);
        assert_eq!(line.skipped_us(), 0);
    }

    #[test]
    fn one_damaged_stamp_moves_nothing_but_itself() {
        for wrong in [-400, -3_000, 0, 9_000, 14_000, 4_000_000, i64::MAX / 2000, i64::MIN / 2000] {
            for streams in [1, 2] {
                let mut line = Timeline::new(2, Some(0));
                let mut packets: Vec<(usize, i64)> = (0..100)
                    .flat_map(|n| (0..streams).map(move |stream| (stream, n * 40)))
                    .collect();
                let place = packets.len() / 2;
                packets[place].1 = wrong;
                let found = placed(&mut line, &packets);
                for (n, (packet, found)) in packets.iter().zip(found).enumerate() {
                    assert!(n == place || packet.1 == found, "{wrong}: {packet:?} at {found}");
                }
                assert_eq!(line.skipped_us(), 0, "{wrong}");
            }
        }
    }

    #[test]
    fn what_comes_before_an_edit_says_nothing_about_the_clock() {
        let mut line = Timeline::new(1, Some(0));
        assert_eq!(line.follow(0, at(-12_000), MS).pts, Some(-12_000));
        assert_eq!(placed(&mut line, &[(0, 0), (0, 40)]), [0, 40]);
        assert_eq!(line.follow(0, at(-5_000), MS).pts, Some(-5_000));
        assert_eq!(placed(&mut line, &[(0, 80)]), [80]);
    }

    #[test]
    fn a_pts_far_from_its_dts_and_an_endless_duration_are_dropped() {
        let mut line = Timeline::new(1, Some(0));
        let broken = Stamps { dts: Some(0), pts: Some(10_001), duration: 3_600_000 };
        assert_eq!(line.place(0, broken, MS), Stamps { dts: Some(0), pts: None, duration: 0 });
    }

    #[test]
    fn without_a_declared_start_the_first_packet_is_zero() {
        let mut line = Timeline::new(1, None);
        assert_eq!(line.place(0, at(123_456), MS).pts, Some(0));
    }
}
