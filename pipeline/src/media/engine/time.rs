//! Time in whole ticks: the video clock of 90 kHz, the encoder's audio clock, microseconds, and the way between them.
//! Rounds to the nearest tick, halves upward; never through floating point.

use ffmpeg_next::Rational;

/// Ticks of the video clock in one second.
pub(super) const VIDEO_HZ: i64 = 90_000;
/// Samples per second of every audio rendition.
pub(super) const AUDIO_HZ: u32 = 48_000;
pub(super) const MICROSECONDS: i64 = 1_000_000;

/// A value of `from_hz` ticks per second in `to_hz` ticks per second.
pub(super) fn ticks(value: i64, from_hz: i64, to_hz: i64) -> i64 {
    scale(value, i128::from(to_hz), i128::from(from_hz))
}

/// A value in a stream's time base in `to_hz` ticks per second.
pub(super) fn from_base(value: i64, base: Rational, to_hz: i64) -> i64 {
    scale(value, i128::from(base.0) * i128::from(to_hz), i128::from(base.1))
}

/// A value in microseconds in a stream's time base.
pub(super) fn to_base(value_us: i64, base: Rational) -> i64 {
    scale(value_us, i128::from(base.1), i128::from(base.0) * i128::from(MICROSECONDS))
}

pub(super) fn video_us(value: i64) -> i64 {
    ticks(value, VIDEO_HZ, MICROSECONDS)
}

/// Milliseconds for people and for the facts; negative times do not exist there.
pub(super) fn to_ms(value_us: i64) -> u64 {
    u64::try_from(value_us.saturating_add(500) / 1000).unwrap_or(0)
}

fn scale(value: i64, numerator: i128, denominator: i128) -> i64 {
    if denominator <= 0 {
        return 0;
    }
    let rounded = (i128::from(value) * numerator * 2 + denominator).div_euclid(denominator * 2);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aac_frame_is_a_whole_number_of_video_ticks() {
        assert_eq!(ticks(1024, i64::from(AUDIO_HZ), VIDEO_HZ), 1920);
        assert_eq!(ticks(-1024, i64::from(AUDIO_HZ), VIDEO_HZ), -1920);
    }

    #[test]
    fn ntsc_frames_keep_their_exact_distance() {
        let base = Rational(1001, 30_000);
        let times: Vec<_> = (0..4).map(|n| from_base(n, base, VIDEO_HZ)).collect();
        assert_eq!(times, [0, 3003, 6006, 9009]);
    }

    #[test]
    fn absurd_values_saturate_and_a_broken_base_is_zero() {
        assert_eq!(ticks(i64::MAX, 1, VIDEO_HZ), i64::MAX);
        assert_eq!(from_base(i64::MIN, Rational(1, 1), VIDEO_HZ), i64::MIN);
        assert_eq!(from_base(7, Rational(1, 0), VIDEO_HZ), 0);
    }
}
