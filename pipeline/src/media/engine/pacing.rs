//! When each picture of the renditions is shown, and which of them start a group. Pure.
//!
//! Time stamps of the source are kept (no constant frame rate), with four exceptions:
//! - the first picture stands at 0: if the source shows nothing before, the first picture is shown from the start;
//! - a gap longer than 0.5 s is filled by repeating the last picture every 0.5 s. Groups begin at the first picture at or
//!   after each multiple of 2 s, so without this a segment could be longer than the 4 s that the playlists promise;
//!   with it, every segment is shorter than 4.5 s, which rounds to 4;
//! - of a source with more pictures per second than a rendition may have, every second one is dropped, or three of four,
//!   and so on; whatever it says of itself, what is over the bound is dropped;
//! - a picture that is not later than the one before it is dropped.

use super::time::VIDEO_HZ;

/// Longest time without a picture.
pub(super) const LONGEST_GAP: i64 = VIDEO_HZ / 2;
/// Groups begin at the first picture at or after each multiple.
pub(super) const GROUP: i64 = 2 * VIDEO_HZ;
/// Rates and clocks are not exact: this much over the bound is let through.
const TOLERANCE: f64 = 1.01;
/// Pictures may come in bursts of this length.
const BURST: i64 = VIDEO_HZ / 5;

/// How many pictures per second are left of `rate`, halved until it fits.
pub(in crate::media) fn shown_rate(rate: f64, most: u32) -> f64 {
    rate / f64::from(keep_every(rate, most))
}

/// A power of two: of so many pictures one is shown.
fn keep_every(rate: f64, most: u32) -> u32 {
    let mut every = 1;
    while rate / f64::from(every) > f64::from(most) * TOLERANCE && every < 1 << 20 {
        every *= 2;
    }
    every
}

/// One showing of a picture, on the 90 kHz clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Showing {
    pub(super) at: i64,
    pub(super) starts_group: bool,
}

/// What becomes of one decoded picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Showings of the picture before (or, at the very start, of this one).
    pub(super) repeats: Vec<Showing>,
    /// The showing of this picture; none: drop it.
    pub(super) showing: Option<Showing>,
}

#[derive(Debug)]
pub(super) struct Pacer {
    last: Option<i64>,
    next_group: i64,
    keep_every: u32,
    /// Pictures until the next one that is kept.
    skip: u32,
    /// The shortest step between pictures that can go on for ever.
    step: i64,
    /// Time that was not used by pictures; each takes a step of it.
    credit: i64,
    /// Until when the credit counts.
    credited: i64,
}

impl Pacer {
    /// `frame_rate` is the source's average, `most` what a rendition may have.
    pub(super) fn new(frame_rate: f64, most: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and 90,000")]
        let step = (90_000.0 / (f64::from(most.max(1)) * TOLERANCE)) as i64;
        let keep_every = keep_every(frame_rate, most);
        Self { last: None, next_group: 0, keep_every, skip: 0, step, credit: BURST, credited: 0 }
    }

    pub(super) fn place(&mut self, at: i64) -> Plan {
        let Some(last) = self.last else {
            let at = if (0..=LONGEST_GAP).contains(&at) { 0 } else { at };
            if at < 0 {
                return Plan { repeats: Vec::new(), showing: None };
            }
            self.skip = self.keep_every - 1;
            let first = self.show(0);
            if at == 0 {
                return Plan { repeats: Vec::new(), showing: Some(first) };
            }
            let mut repeats = vec![first];
            repeats.extend(self.fill_to(at));
            return Plan { repeats, showing: Some(self.show(at)) };
        };
        if at <= last || !self.is_due() || !self.has_room(at) {
            return Plan { repeats: Vec::new(), showing: None };
        }
        let repeats = self.fill_to(at);
        Plan { repeats, showing: Some(self.show(at)) }
    }

    /// Counts a picture of a source that has too many.
    fn is_due(&mut self) -> bool {
        let is_due = self.skip == 0;
        self.skip = if is_due { self.keep_every } else { self.skip } - 1;
        is_due
    }

    /// Whether one more picture stays within the bound, however they come.
    fn has_room(&mut self, at: i64) -> bool {
        self.credit = (self.credit + (at - self.credited).max(0)).min(BURST);
        self.credited = self.credited.max(at);
        let has_room = self.credit >= self.step;
        if has_room {
            self.credit -= self.step;
        }
        has_room
    }

    /// Showings of the last picture up to the end of the stream.
    pub(super) fn finish(&mut self, end: i64) -> Vec<Showing> {
        self.fill_to(end)
    }

    fn fill_to(&mut self, at: i64) -> Vec<Showing> {
        let mut repeats = Vec::new();
        while let Some(last) = self.last.filter(|last| at - last > LONGEST_GAP) {
            repeats.push(self.show(last + LONGEST_GAP));
        }
        repeats
    }

    fn show(&mut self, at: i64) -> Showing {
        let starts_group = at >= self.next_group;
        if starts_group {
            self.next_group = (at / GROUP + 1) * GROUP;
        }
        self.last = Some(at);
        Showing { at, starts_group }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn showings(rate: f64, times: &[i64], end: i64) -> Vec<Showing> {
        let mut pacer = Pacer::new(rate, 60);
        let mut all = Vec::new();
        for &at in times {
            let plan = pacer.place(at);
            all.extend(plan.repeats);
            all.extend(plan.showing);
        }
        all.extend(pacer.finish(end));
        all
    }

    #[test]
    fn steady_pictures_keep_their_times_and_groups_begin_every_two_seconds() {
        let times: Vec<i64> = (0..300).map(|n| n * 3003).collect();
        let all = showings(29.97, &times, 300 * 3003);
        assert_eq!(all.iter().map(|s| s.at).collect::<Vec<_>>(), times);
        let groups: Vec<i64> = all.iter().filter(|s| s.starts_group).map(|s| s.at).collect();
        assert_eq!(groups, [0, 60 * 3003, 120 * 3003, 180 * 3003, 240 * 3003]);
    }

    #[test]
    fn a_source_over_the_bound_is_halved_until_it_fits_and_keeps_its_times() {
        for (rate, shown) in [(120, 60), (240, 60), (90, 45), (1000, 31)] {
            let times: Vec<i64> = (0..rate).map(|n| n * VIDEO_HZ / rate).collect();
            let all = showings(f64::from(u32::try_from(rate).unwrap()), &times, VIDEO_HZ);
            assert_eq!(all.len(), usize::try_from(shown + i64::from(rate == 1000)).unwrap());
            assert!(all.iter().all(|showing| times.contains(&showing.at)), "{rate}");
            let steps: Vec<i64> = all.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
            assert!(steps.iter().max().unwrap() - steps.iter().min().unwrap() <= 1, "{steps:?}");
        }
        assert!((shown_rate(119.88, 60) - 59.94).abs() < 1e-9);
        assert!((shown_rate(60.0, 60) - 60.0).abs() < 1e-9);
    }

    /// Sixty per second with times in whole milliseconds, as Matroska has them.
    #[test]
    fn a_source_at_the_bound_loses_nothing() {
        for rate in [60_000, 59_940] {
            let times: Vec<i64> = (0..6_000).map(|n| n * 1_000_000 / rate * 90).collect();
            assert_eq!(
                showings(f64::from(i32::try_from(rate).unwrap()) / 1000.0, &times, 0).len(),
                6_000
            );
        }
    }

    #[test]
    fn a_source_that_lies_about_its_rate_is_bounded_all_the_same() {
        let times: Vec<i64> = (0..10_000).map(|n| n * 90).collect();
        let shown = showings(25.0, &times, 0).len();
        assert!((590..640).contains(&shown), "{shown} pictures in ten seconds");
    }

    #[test]
    fn a_late_first_picture_is_shown_from_the_start() {
        assert_eq!(showings(30.0, &[2_000], 5_000)[0].at, 0);
        let all: Vec<i64> = showings(30.0, &[100_000], 103_000).iter().map(|s| s.at).collect();
        assert_eq!(all, [0, 45_000, 90_000, 100_000]);
    }

    #[test]
    fn a_single_picture_of_three_seconds_is_repeated_to_its_end() {
        assert_eq!(showings(0.0, &[0], 3 * VIDEO_HZ).len(), 6);
    }

    proptest! {
        #[test]
        fn every_segment_on_the_cut_grid_is_shorter_than_four_and_a_half_seconds(
            steps in prop::collection::vec(-5_000i64..900_000, 1..200),
            rate in 1.0f64..240.0,
        ) {
            let times: Vec<i64> =
                steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            let end = times.iter().max().copied().unwrap_or(0).max(0) + 3_000;
            let all = showings(rate, &times, end);
            prop_assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(all.windows(2).all(|pair| pair[1].at - pair[0].at <= LONGEST_GAP));
            // 60 per second and one in a hundred more, a burst, and two repeats.
            for (first, showing) in all.iter().enumerate() {
                let second = all[first..].iter().take_while(|s| s.at < showing.at + VIDEO_HZ);
                prop_assert!(second.count() <= 61 + 13 + 2);
            }
            let groups: Vec<i64> = all.iter().filter(|s| s.starts_group).map(|s| s.at).collect();
            for pair in groups.windows(3) {
                prop_assert!(pair[2] - pair[0] < 4 * VIDEO_HZ + LONGEST_GAP);
            }
        }
    }
}
