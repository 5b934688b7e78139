//! The shape of a picture with square pixels, and where it goes when the target has another one. Pure.

use ffmpeg_next::Rational;

/// Pixels further from square than this are a broken label.
const MOST_STRETCHED: i32 = 8;
/// Lines or columns that rounding to even sizes explains.
const ROUNDING: u32 = 4;

/// A size with square pixels: the width follows the pixels' shape, within reason.
pub(super) fn square((width, height): (u32, u32), pixel_aspect: Rational) -> (u32, u32) {
    let (num, den) = match pixel_aspect {
        Rational(num, den)
            if num > 0
                && den > 0
                && num <= den.saturating_mul(MOST_STRETCHED)
                && den <= num.saturating_mul(MOST_STRETCHED) =>
        {
            (num, den)
        }
        _ => (1, 1),
    };
    let exact = i64::from(width) * i64::from(num);
    let square = (exact + i64::from(den) / 2) / i64::from(den);
    (u32::try_from(square).unwrap_or(width).max(1), height)
}

/// What of `target` a picture fills without being stretched, in even numbers. All of it, where only rounding is between them.
pub(super) fn fit((width, height): (u32, u32), target: (u32, u32)) -> (u32, u32) {
    let [width, height] = [u64::from(width.max(1)), u64::from(height.max(1))];
    let across = u64::from(target.0) * height;
    let down = u64::from(target.1) * width;
    // The smaller of the two scales touches its sides.
    let (filled_width, filled_height) = if across <= down {
        (target.0, even(across / width).min(target.1))
    } else {
        (even(down / height).min(target.0), target.1)
    };
    let close = |filled: u32, of: u32| of - filled <= ROUNDING.max(of / 50);
    if close(filled_width, target.0) && close(filled_height, target.1) {
        return target;
    }
    (filled_width, filled_height)
}

fn even(side: u64) -> u32 {
    u32::try_from(side / 2 * 2).unwrap_or(u32::MAX).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_follows_the_shape_of_the_pixels() {
        assert_eq!(square((720, 576), Rational(64, 45)), (1024, 576));
        assert_eq!(square((720, 480), Rational(8, 9)), (640, 480));
        for broken in [Rational(0, 1), Rational(1, 0), Rational(9, 1), Rational(i32::MAX, 1)] {
            assert_eq!(square((720, 576), broken), (720, 576));
        }
    }

    #[test]
    fn a_rung_is_filled_by_the_shape_it_was_made_for() {
        for (from, rung) in [
            ((1920, 1080), (854, 480)),
            ((1024, 576), (854, 480)),
            ((480, 854), (480, 854)),
            ((17, 31), (18, 32)),
            ((1, 1), (16, 16)),
        ] {
            assert_eq!(fit(from, rung), rung, "{from:?}");
        }
    }

    #[test]
    fn another_shape_gets_bars_on_two_sides() {
        assert_eq!(fit((640, 480), (854, 480)), (640, 480));
        assert_eq!(fit((1280, 720), (640, 480)), (640, 360));
        assert_eq!(fit((720, 1280), (1280, 720)), (404, 720));
        assert_eq!(fit((8000, 2), (640, 480)), (640, 2));
    }
}
