//! From probabilities to intervals of speech: thresholds, pauses, padding. Pure, and fed as the sound comes:
//! what it keeps grows with the number of intervals, not with the length of the sound.

use super::model::WINDOW;

/// Samples per millisecond, at 16 kHz.
pub(super) const SAMPLES_PER_MS: u64 = 16;
/// From this probability on somebody speaks; below [`EXIT`] nobody does; between the two nothing changes.
pub(super) const THRESHOLD: f32 = 0.5;
const EXIT: f32 = 0.35;
/// A shorter pause does not end an interval. Two seconds, as some use, would call half of a game clip speech.
const MIN_SILENCE: u64 = 300 * SAMPLES_PER_MS;
/// A shorter interval is a click or a shout of a game character.
const MIN_SPEECH: u64 = 200 * SAMPLES_PER_MS;
/// Added on both sides: the first and last sound of a word are soft.
const PAD: u64 = 100 * SAMPLES_PER_MS;
/// A longer interval is split, at its last pause of at least [`MIN_PAUSE`] if there is one. Speech models see 30 s.
const MAX_SPEECH: u64 = 30_000 * SAMPLES_PER_MS - 2 * PAD - WINDOW as u64;
const MIN_PAUSE: u64 = 98 * SAMPLES_PER_MS;

/// Somebody speaks from `start_ms` to before `end_ms`. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub start_ms: u64,
    pub end_ms: u64,
}

impl Interval {
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.end_ms - self.start_ms
    }
}

/// Collects intervals from one probability per window. Positions are samples.
#[derive(Default)]
pub(super) struct Intervals {
    position: u64,
    open: Option<Open>,
    closed: Vec<(u64, u64)>,
}

/// An interval that has begun.
struct Open {
    start: u64,
    /// Since when nobody speaks, while it is not yet sure that the interval is over.
    quiet_since: Option<u64>,
    /// The last pause inside, from its start to the next word.
    pause: Option<(u64, u64)>,
}

impl Open {
    fn at(start: u64) -> Self {
        Self { start, quiet_since: None, pause: None }
    }
}

impl Intervals {
    /// The probability of the next window.
    pub(super) fn push(&mut self, probability: f32) {
        let at = self.position;
        self.position += WINDOW as u64;
        let Some(mut open) = self.open.take() else {
            self.open = (probability >= THRESHOLD).then(|| Open::at(at));
            return;
        };
        if probability >= THRESHOLD {
            if let Some(quiet) = open.quiet_since.take().filter(|quiet| at - quiet >= MIN_PAUSE) {
                open.pause = Some((quiet, at));
            }
        } else if probability < EXIT {
            open.quiet_since.get_or_insert(at);
        }
        self.open = match open.quiet_since {
            Some(quiet) if at - quiet >= MIN_SILENCE => self.close(open.start, quiet),
            _ if at - open.start >= MAX_SPEECH => self.split(&open, at),
            _ => Some(open),
        };
    }

    fn close(&mut self, start: u64, end: u64) -> Option<Open> {
        if end - start >= MIN_SPEECH {
            self.closed.push((start, end));
        }
        None
    }

    fn split(&mut self, open: &Open, at: u64) -> Option<Open> {
        if let Some(quiet) = open.quiet_since {
            return self.close(open.start, quiet);
        }
        let (end, next) = open.pause.unwrap_or((at, at));
        self.close(open.start, end);
        Some(Open::at(next))
    }

    /// All intervals of a sound of so many samples: padded, in order, apart, within the sound.
    pub(super) fn finish(mut self, samples: u64) -> Vec<Interval> {
        if let Some(open) = self.open.take() {
            self.close(open.start, open.quiet_since.unwrap_or(samples).min(samples));
        }
        let mut intervals = Vec::with_capacity(self.closed.len());
        for (index, &(start, end)) in self.closed.iter().enumerate() {
            // Neighbours share a pause that is too short for both pads.
            let before = match index.checked_sub(1) {
                Some(previous) => PAD.min((start - self.closed[previous].1) / 2),
                None => PAD.min(start),
            };
            let room = match self.closed.get(index + 1) {
                Some(&(next, _)) => (next - end) / 2,
                None => samples.saturating_sub(end),
            };
            intervals.push(Interval {
                start_ms: (start - before).div_ceil(SAMPLES_PER_MS),
                end_ms: (end + PAD.min(room)) / SAMPLES_PER_MS,
            });
        }
        intervals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: u64 = WINDOW as u64 / SAMPLES_PER_MS;

    fn intervals(probabilities: impl IntoIterator<Item = f32>) -> Vec<(u64, u64)> {
        let mut collector = Intervals::default();
        let mut samples = 0;
        for probability in probabilities {
            collector.push(probability);
            samples += WINDOW as u64;
        }
        collector.finish(samples).iter().map(|i| (i.start_ms, i.end_ms)).collect()
    }

    fn windows(probability: f32, ms: u64) -> impl Iterator<Item = f32> {
        std::iter::repeat_n(probability, usize::try_from(ms / WINDOW_MS).expect("small"))
    }

    #[test]
    fn speech_is_padded_and_stays_within_the_sound() {
        let speech = windows(0.0, 640).chain(windows(0.9, 640)).chain(windows(0.0, 640));
        assert_eq!(intervals(speech), [(540, 1380)]);
        assert_eq!(intervals(windows(0.9, 640)), [(0, 640)]);
        assert_eq!(intervals(windows(0.1, 6400)), []);
        assert_eq!(intervals([]), []);
    }

    #[test]
    fn a_short_pause_joins_and_a_long_one_parts() {
        let with_pause = |ms| windows(0.9, 640).chain(windows(0.0, ms)).chain(windows(0.9, 640));
        assert_eq!(intervals(with_pause(256)), [(0, 1536)]);
        assert_eq!(intervals(with_pause(640)), [(0, 740), (1180, 1920)]);
    }

    #[test]
    fn a_click_is_not_speech_and_a_doubtful_window_changes_nothing() {
        assert_eq!(
            intervals(windows(0.0, 320).chain(windows(0.9, 160)).chain(windows(0.0, 640))),
            []
        );
        let doubtful = windows(0.9, 640).chain(windows(0.4, 3200)).chain(windows(0.9, 640));
        assert_eq!(intervals(doubtful), [(0, 4480)]);
    }

    #[test]
    fn a_long_speech_is_split_at_its_last_pause() {
        let speech = windows(0.9, 25_600).chain(windows(0.0, 160)).chain(windows(0.9, 12_800));
        let found = intervals(speech);
        assert_eq!(found, [(0, 25_680), (25_680, 38_560)]);
        let breathless = intervals(windows(0.9, 64_000));
        assert_eq!(breathless.len(), 3);
        assert!(breathless.iter().all(|(start, end)| end - start <= 30_000), "{breathless:?}");
    }

    proptest! {
        #[test]
        fn intervals_are_in_order_apart_not_empty_and_within(
            probabilities in proptest::collection::vec(0.0..1.0_f32, 0..3000),
            cut in 0..WINDOW as u64,
        ) {
            let samples = (probabilities.len() as u64 * WINDOW as u64).saturating_sub(cut);
            let mut collector = Intervals::default();
            for probability in probabilities {
                collector.push(probability);
            }
            let mut end = 0;
            for interval in collector.finish(samples) {
                prop_assert!(interval.start_ms >= end && interval.start_ms < interval.end_ms);
                prop_assert!(interval.duration_ms() <= 30_000);
                end = interval.end_ms;
            }
            prop_assert!(end * SAMPLES_PER_MS <= samples);
        }
    }
}
