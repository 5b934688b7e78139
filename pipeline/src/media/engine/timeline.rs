//! One time line for the chosen streams, from time stamps that nobody guarantees.
//!
//! - Common zero: one origin is taken from all streams, so that they keep their distance.
//! - A jump of more than 10 s, forward or back, moves the common offset: a damaged time stamp must not become an hour
//!   of filling. What was jumped over is counted, for the comparison with the declared duration.
//! - A pts more than 10 s from its dts is dropped; a duration over 10 s counts as unknown.
//!
//! Gaps up to 10 s stay: they are what the recording says.

use ffmpeg_next::Rational;

use super::time::{MICROSECONDS, from_base, to_base};

/// Nothing longer is believed.
const BOUND_US: i64 = 10 * MICROSECONDS;

/// The stamps of one packet, in its stream's time base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamps {
    pub(super) dts: Option<i64>,
    pub(super) pts: Option<i64>,
    pub(super) duration: i64,
}

#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(super) struct Timeline {
    /// Taken from every time stamp, in microseconds; unknown until the first one.
    offset_us: Option<i64>,
    /// Where each stream's next packet should be, on the corrected line.
    expected_us: Vec<Option<i64>>,
    skipped_us: i64,
}

impl Timeline {
    /// For `streams` streams whose earliest declared start is `origin_us`.
    pub(super) fn new(streams: usize, origin_us: Option<i64>) -> Self {
        Self { offset_us: origin_us, expected_us: vec![None; streams], skipped_us: 0 }
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
        let offset_us = self.offset_after(stream, at_us);
        let line_us = at_us.saturating_sub(offset_us);
        let step_us = if duration_ok { duration_us } else { 0 };
        self.expected_us[stream] = Some(line_us.saturating_add(step_us));

        let offset = to_base(offset_us, base);
        let close = |pts: &i64| {
            let lead = from_base(pts.saturating_sub(at), base, MICROSECONDS);
            (-BOUND_US..=BOUND_US).contains(&lead)
        };
        Stamps {
            dts: stamps.dts.map(|dts| dts.saturating_sub(offset)),
            pts: stamps.pts.filter(close).map(|pts| pts.saturating_sub(offset)),
            duration,
        }
    }

    fn offset_after(&mut self, stream: usize, at_us: i64) -> i64 {
        let offset = *self.offset_us.get_or_insert(at_us);
        let expected = self.expected_us[stream]
            .or_else(|| self.expected_us.iter().flatten().max().copied())
            .unwrap_or(0);
        let jump = at_us.saturating_sub(offset).saturating_sub(expected);
        if (-BOUND_US..=BOUND_US).contains(&jump) {
            return offset;
        }
        self.skipped_us = self.skipped_us.saturating_add(jump.max(0));
        let moved = offset.saturating_add(jump);
        self.offset_us = Some(moved);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Rational = Rational(1, 1000);

    fn at(ms: i64) -> Stamps {
        Stamps { dts: Some(ms), pts: Some(ms), duration: 40 }
    }

    #[test]
    fn streams_keep_their_distance_after_the_common_zero() {
        let mut line = Timeline::new(2, Some(30_000_000));
        assert_eq!(line.place(0, at(30_000), MS).pts, Some(0));
        assert_eq!(line.place(1, at(30_045), MS).pts, Some(45));
    }

    #[test]
    fn a_gap_of_five_seconds_stays_and_one_of_an_hour_is_closed_for_all_streams() {
        let mut line = Timeline::new(2, Some(0));
        line.place(0, at(0), MS);
        assert_eq!(line.place(0, at(5_040), MS).dts, Some(5_040));
        assert_eq!(line.place(0, at(3_605_080), MS).dts, Some(5_080));
        assert_eq!(line.place(1, at(3_605_090), MS).dts, Some(5_090));
        assert_eq!(line.skipped_us(), 3_600_000_000);
    }

    #[test]
    fn a_clock_that_starts_again_goes_on_where_it_was() {
        let mut line = Timeline::new(1, Some(90_000_000));
        line.place(0, at(90_000), MS);
        assert_eq!(line.place(0, at(0), MS).dts, Some(40));
        assert_eq!(line.skipped_us(), 0);
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
