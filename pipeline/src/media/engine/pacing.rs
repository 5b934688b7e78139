//! When each picture of the renditions is shown, and which of them start a group. Pure.
//!
//! Time stamps of the source are kept (no constant frame rate), with four exceptions:
//! - the first picture stands at 0: if the source shows nothing before, the first picture is shown from the start;
//! - a gap longer than 0.5 s is filled by repeating the last picture every 0.5 s. Groups begin at the first picture at or
//!   after each multiple of 2 s, so without this a segment could be longer than the 4 s that the playlists promise;
//!   with it, every segment is shorter than 4.5 s, which rounds to 4;
//! - pictures closer than the 60-per-second bound are dropped where the source has more than that;
//! - a picture that is not later than the one before it is dropped.

use super::time::VIDEO_HZ;

/// Longest time without a picture.
pub(super) const LONGEST_GAP: i64 = VIDEO_HZ / 2;
/// Groups begin at the first picture at or after each multiple.
pub(super) const GROUP: i64 = 2 * VIDEO_HZ;
/// 1/66 s: what a source over 60 pictures per second must keep as distance.
const SMALLEST_STEP: i64 = VIDEO_HZ / 66;

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
    smallest_step: i64,
}

impl Pacer {
    /// `frame_rate` is the source's average.
    pub(super) fn new(frame_rate: f64) -> Self {
        let smallest_step = if frame_rate > 61.0 { SMALLEST_STEP } else { 1 };
        Self { last: None, next_group: 0, smallest_step }
    }

    pub(super) fn place(&mut self, at: i64) -> Plan {
        let Some(last) = self.last else {
            let at = if (0..=LONGEST_GAP).contains(&at) { 0 } else { at };
            if at < 0 {
                return Plan { repeats: Vec::new(), showing: None };
            }
            let first = self.show(0);
            if at == 0 {
                return Plan { repeats: Vec::new(), showing: Some(first) };
            }
            let mut repeats = vec![first];
            repeats.extend(self.fill_to(at));
            return Plan { repeats, showing: Some(self.show(at)) };
        };
        if at < last + self.smallest_step {
            return Plan { repeats: Vec::new(), showing: None };
        }
        let repeats = self.fill_to(at);
        Plan { repeats, showing: Some(self.show(at)) }
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
        let mut pacer = Pacer::new(rate);
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
    fn over_sixty_pictures_per_second_every_other_one_is_dropped() {
        let times: Vec<i64> = (0..120).map(|n| n * 750).collect();
        assert_eq!(showings(120.0, &times, 90_000).len(), 60);
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
            let groups: Vec<i64> = all.iter().filter(|s| s.starts_group).map(|s| s.at).collect();
            for pair in groups.windows(3) {
                prop_assert!(pair[2] - pair[0] < 4 * VIDEO_HZ + LONGEST_GAP);
            }
        }
    }
}
