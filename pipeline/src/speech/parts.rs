//! Which parts of a sound are sent to an engine: cut in silences, short enough for every server, and nothing in which
//! nobody speaks for long. Pure.

use super::intervals::Interval;

/// How intervals are put together into parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Longest part. An interval is never cut, so no interval may be longer.
    longest_ms: u64,
    /// A longer silence ends a part: it would cost money and make a Whisper model invent text.
    silence_ms: u64,
}

impl Cut {
    /// For engines that tell the times of what they hear: 10 min of WAV are 19.2 MB, where servers take 25.
    pub(super) const LONG: Cut = Cut { longest_ms: 600_000, silence_ms: 30_000 };
    /// For engines that do not: the text of a part is then known to within one breath.
    pub(super) const SHORT: Cut = Cut { longest_ms: 30_000, silence_ms: 500 };

    /// Parts that together hold all intervals, in order.
    pub(super) fn parts(self, intervals: &[Interval]) -> Vec<Interval> {
        let mut parts: Vec<Interval> = Vec::new();
        for interval in intervals {
            match parts.last_mut() {
                Some(part)
                    if interval.start_ms - part.end_ms <= self.silence_ms
                        && interval.end_ms - part.start_ms <= self.longest_ms =>
                {
                    part.end_ms = interval.end_ms;
                }
                _ => parts.push(*interval),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start_ms: u64, end_ms: u64) -> Interval {
        Interval { start_ms, end_ms }
    }

    #[test]
    fn a_long_silence_parts_and_a_short_one_does_not() {
        let intervals =
            [interval(1_000, 5_000), interval(30_000, 40_000), interval(71_000, 72_000)];
        assert_eq!(
            Cut::LONG.parts(&intervals),
            [interval(1_000, 40_000), interval(71_000, 72_000)]
        );
        assert_eq!(Cut::SHORT.parts(&intervals), intervals);
        assert_eq!(Cut::LONG.parts(&[]), []);
    }

    #[test]
    fn an_hour_without_a_break_is_cut_between_intervals() {
        let intervals =
            (0..120).map(|i| interval(i * 30_000, (i + 1) * 30_000)).collect::<Vec<_>>();
        let parts = Cut::LONG.parts(&intervals);
        assert_eq!(parts.len(), 6);
        assert!(parts.iter().all(|part| part.duration_ms() == 600_000));
    }
}
