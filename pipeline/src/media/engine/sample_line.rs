//! Decoded sound on one unbroken line of samples: one rate, one channel count, silence where the source has a hole. Pure.
//!
//! Between what should come and what comes there may be a step:
//! - 0.1 s or more is a hole or an overlap, corrected at once (silence in, or samples out);
//! - what all of the last packets have in common stays: more than 20 ms are lost packets, corrected likewise; more than
//!   2 ms are a sound clock that is not the picture's, and the samples are stretched or squeezed, by so little that
//!   nobody hears it;
//! - the rest is trembling of the stamps and left alone, because every correction can be heard.

use std::collections::VecDeque;

/// What comes out: planar 32-bit floats of 1 or 2 channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) rate: u32,
    pub(super) channels: u16,
}

/// Where the line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At time zero, with silence before the first sound.
    Zero,
    /// At the first sound.
    FirstSound,
}

/// Packets whose common step is one that stays.
const STEPS: usize = 8;
/// Of so many samples one is added or taken away at most: a fifteenth of a semitone.
const SAMPLES_PER_STRETCH: usize = 256;

/// Samples without holes.
#[derive(Debug)]
pub(super) struct SampleLine {
    rate: i64,
    /// The last steps, as they would be after what was corrected since.
    steps: VecDeque<i64>,
    start: Start,
    /// Index on the presentation time line of the sample after the last.
    next: Option<i64>,
    waiting: Vec<VecDeque<f32>>,
}

impl SampleLine {
    pub(super) fn new(format: Format, start: Start) -> Self {
        let waiting = vec![VecDeque::new(); usize::from(format.channels)];
        let steps = VecDeque::with_capacity(STEPS + 1);
        Self { rate: i64::from(format.rate), steps, start, next: None, waiting }
    }

    /// Index of the sample after the last one, once there is one.
    pub(super) fn end(&self) -> Option<i64> {
        self.next
    }

    /// Index of the first sample that waits.
    pub(super) fn position(&self) -> i64 {
        let waiting = self.waiting.first().map_or(0, VecDeque::len);
        self.next.unwrap_or(0) - i64::try_from(waiting).unwrap_or(0)
    }

    /// Appends samples whose first stands at `at`, if that is known.
    pub(super) fn place(&mut self, at: Option<i64>, planes: &[&[f32]]) {
        let begun = self.next.is_some();
        let at = at.unwrap_or(self.next.unwrap_or(0));
        let next = *self.next.get_or_insert(match self.start {
            Start::Zero => 0,
            Start::FirstSound => at.max(0),
        });
        let count = planes.first().map_or(0, |plane| plane.len());
        match self.correction(at.saturating_sub(next), begun) {
            Correction::Move(step) => {
                self.silence(step);
                let skip = usize::try_from(step.saturating_neg()).unwrap_or(0);
                self.append(planes.iter().map(|plane| plane.iter().skip(skip).copied()));
                self.advance(count.saturating_sub(skip));
            }
            Correction::Stretch(step) => {
                let most = i64::try_from(count / SAMPLES_PER_STRETCH).unwrap_or(0);
                let step = step.clamp(-most, most);
                self.steps.iter_mut().for_each(|earlier| *earlier -= step);
                let length = count.saturating_add_signed(isize::try_from(step).unwrap_or(0));
                self.append(planes.iter().map(|plane| stretched(plane, length)));
                self.advance(length);
            }
        }
    }

    fn correction(&mut self, step: i64, begun: bool) -> Correction {
        if !begun || step.saturating_abs() >= self.rate / 10 {
            self.steps.clear();
            return Correction::Move(step);
        }
        self.steps.push_back(step);
        if self.steps.len() < STEPS {
            return Correction::Move(0);
        }
        let least = self.steps.iter().copied().min().unwrap_or(0).max(0);
        let most = self.steps.iter().copied().max().unwrap_or(0).min(0);
        self.steps.pop_front();
        // At most one of the two is not zero.
        match least + most {
            stays if stays.abs() > self.rate / 50 => {
                self.steps.clear();
                Correction::Move(stays)
            }
            stays if stays.abs() > self.rate / 500 => Correction::Stretch(stays),
            _ => Correction::Move(0),
        }
    }

    fn append<I: Iterator<Item = f32>>(&mut self, planes: impl Iterator<Item = I>) {
        for (waiting, plane) in self.waiting.iter_mut().zip(planes) {
            waiting.extend(plane.map(audible));
        }
    }

    /// Appends silence up to an index, if that is ahead.
    pub(super) fn fill_to(&mut self, end: i64) {
        let next = *self.next.get_or_insert(0);
        self.silence(end - next);
    }

    /// The next `count` samples of each channel; with `all`, what is left of them.
    pub(super) fn take(&mut self, count: usize, all: bool) -> Option<Vec<Vec<f32>>> {
        let waiting = self.waiting.first().map_or(0, VecDeque::len);
        let count = if all { count.min(waiting) } else { count };
        if count == 0 || waiting < count {
            return None;
        }
        Some(self.waiting.iter_mut().map(|plane| plane.drain(..count).collect()).collect())
    }

    fn silence(&mut self, count: i64) {
        let Ok(count) = usize::try_from(count) else { return };
        for waiting in &mut self.waiting {
            waiting.extend(std::iter::repeat_n(0.0, count));
        }
        self.advance(count);
    }

    fn advance(&mut self, count: usize) {
        self.next = self.next.map(|next| next + i64::try_from(count).unwrap_or(0));
    }
}

enum Correction {
    /// Silence before the samples, or, below zero, so many of them left out.
    Move(i64),
    /// So many samples more, or less, in the same sound.
    Stretch(i64),
}

/// Within full scale. Damaged float samples are anything, and an encoder that gets them fails or takes minutes.
fn audible(sample: f32) -> f32 {
    if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) }
}

/// The same sound in another number of samples: straight lines between the old ones.
fn stretched(plane: &[f32], length: usize) -> impl Iterator<Item = f32> {
    let (last, new_last) = (plane.len().saturating_sub(1), length.saturating_sub(1).max(1));
    (0..length).map(move |n| {
        let (at, rest) = (n * last / new_last, n * last % new_last);
        #[expect(clippy::cast_precision_loss, reason = "a packet has fewer samples than 24 bits")]
        let part = rest as f32 / new_last as f32;
        plane[at] + (plane[(at + 1).min(last)] - plane[at]) * part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { rate: 1000, channels: 1 };

    fn taken(line: &mut SampleLine) -> Vec<f32> {
        line.take(usize::MAX, true).map(|mut planes| planes.remove(0)).unwrap_or_default()
    }

    #[test]
    fn sound_that_begins_late_has_silence_before_it_and_keeps_its_time() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(3), &[&[1.0, 1.0]]);
        assert_eq!(taken(&mut line), [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(line.end(), Some(5));
    }

    #[test]
    fn samples_that_are_no_sound_do_not_leave_full_scale() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(0), &[&[f32::NAN, f32::INFINITY, -1e30, 0.5]]);
        assert_eq!(taken(&mut line), [0.0, 1.0, -1.0, 0.5]);
    }

    #[test]
    fn samples_before_zero_are_cut() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(-2), &[&[0.9, 0.9, 1.0]]);
        assert_eq!(taken(&mut line), [1.0]);
        assert_eq!(line.end(), Some(1));
    }

    #[test]
    fn a_line_from_the_first_sound_says_where_it_begins() {
        let mut line = SampleLine::new(FORMAT, Start::FirstSound);
        line.place(Some(700), &[&[1.0; 10]]);
        assert_eq!(line.position(), 700);
        assert_eq!(taken(&mut line).len(), 10);
    }

    #[test]
    fn small_steps_are_left_alone_and_large_ones_corrected() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(Some(0), &[&[1.0; 100]]);
        line.place(Some(199), &[&[0.2; 100]]);
        assert_eq!(line.end(), Some(200), "99 ms late: appended as it is");
        line.place(Some(400), &[&[0.3; 100]]);
        assert_eq!(line.end(), Some(500), "200 ms of silence before it");
        line.place(Some(350), &[&[0.4; 160]]);
        assert_eq!(line.end(), Some(510), "150 ms of overlap are cut");
        assert_eq!(taken(&mut line).len(), 510);
    }

    /// Blocks of 1,000 samples, each at its time and `late` later; where the line ends after each, from that time on.
    fn lateness(late: impl Fn(i64) -> i64, blocks: i64) -> Vec<i64> {
        let mut line = SampleLine::new(Format { rate: 48_000, channels: 1 }, Start::Zero);
        (0..blocks)
            .map(|n| {
                line.place(Some(n * 1000 + late(n)), &[&[0.5; 1000]]);
                (n + 1) * 1000 + late(n) - line.end().unwrap()
            })
            .collect()
    }

    #[test]
    fn packets_that_were_lost_are_made_up_for() {
        // 40 ms are missing from block 10 on.
        let found = lateness(|n| if n < 10 { 0 } else { 1_920 }, 40);
        assert_eq!((found[16], found[17]), (1_920, 0), "once it is sure that they stay lost");
        assert_eq!(found[39], 0);
    }

    #[test]
    fn a_clock_that_runs_away_is_followed_and_stamps_that_tremble_are_not() {
        for drift in [-2, 2, 3] {
            let found = lateness(|n| n * drift, 2_000);
            assert!(
                found.iter().all(|late| late.abs() <= 130),
                "{drift}: {:?}",
                found.iter().max()
            );
        }
        let tremble = |n: i64| if n % 3 == 0 { 700 } else { -600 };
        let mut line = SampleLine::new(Format { rate: 48_000, channels: 1 }, Start::Zero);
        (0..500).for_each(|n| line.place(Some(1000 + n * 1000 + tremble(n)), &[&[0.5; 1000]]));
        assert_eq!(line.end(), Some(1000 + 500_000 + tremble(0)));
    }

    #[test]
    fn stretched_sound_is_the_same_sound() {
        let ramp: Vec<f32> = (0_u8..=10).map(|n| f32::from(n) / 10.0).collect();
        let longer: Vec<f32> = stretched(&ramp, 21).collect();
        let expected = (0_u8..=20).map(|n| f32::from(n) / 20.0);
        assert!(longer.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{longer:?}");
        assert_eq!(stretched(&ramp, 6).collect::<Vec<_>>(), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(stretched(&[], 0).count(), 0);
    }

    #[test]
    fn samples_without_a_time_follow_on() {
        let mut line = SampleLine::new(FORMAT, Start::Zero);
        line.place(None, &[&[1.0; 5]]);
        line.place(None, &[&[1.0; 5]]);
        assert_eq!(line.end(), Some(10));
    }
}
