//! One picture as 816 numbers: colours of the whole, colours of each quarter, directions of edges by place. Each of the
//! three weighs the same. Pure; counts are integers, see the parent for why.

use super::bars::{Picture, luma};
use super::{HEIGHT, WIDTH};

const HUES: u32 = 12;
const SATURATIONS: u32 = 3;
const VALUES: u32 = 4;
const COLOURS: usize = (HUES * SATURATIONS * VALUES) as usize;
const QUARTERS: usize = 4;
const DIRECTIONS: usize = 8;
const CELLS: (usize, usize) = (4, 3);
const EDGES: usize = DIRECTIONS * CELLS.0 * CELLS.1;
/// Length of a descriptor.
pub(super) const DESCRIPTOR: usize = COLOURS + QUARTERS * COLOURS + EDGES;
/// With less between its strongest and weakest channel a pixel is grey: its hue would be noise of the codec.
const GREY: u32 = 20;

pub(super) fn describe(picture: &Picture) -> [f32; DESCRIPTOR] {
    let mut counts = [0_u32; DESCRIPTOR];
    let (whole, rest) = counts.split_at_mut(COLOURS);
    let (quarters, edges) = rest.split_at_mut(QUARTERS * COLOURS);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let colour = colour(picture.pixel(x, y));
            let quarter = usize::from(x >= WIDTH / 2) + 2 * usize::from(y >= HEIGHT / 2);
            whole[colour] += 1;
            quarters[quarter * COLOURS + colour] += 1;
        }
    }
    count_edges(picture, edges);
    let mut descriptor = [0.0; DESCRIPTOR];
    let bounds = [0, COLOURS, COLOURS + QUARTERS * COLOURS, DESCRIPTOR];
    for group in bounds.windows(2) {
        normalise(&counts[group[0]..group[1]], &mut descriptor[group[0]..group[1]]);
    }
    descriptor
}

/// Square roots of shares, so that the squares add up to 1: large areas count for less than their size.
#[expect(clippy::cast_precision_loss, reason = "counts of a small picture are exact in f32")]
fn normalise(counts: &[u32], to: &mut [f32]) {
    let all = counts.iter().sum::<u32>().max(1) as f32;
    to.iter_mut().zip(counts).for_each(|(to, &count)| *to = (count as f32 / all).sqrt());
}

/// Which of the 144 colours a pixel has: hue, saturation and value in steps.
fn colour(pixel: [u8; 3]) -> usize {
    let [r, g, b] = pixel.map(u32::from);
    let (strongest, weakest) = (r.max(g).max(b), r.min(g).min(b));
    let spread = strongest - weakest;
    let value = strongest * VALUES / 256;
    if spread < GREY {
        return value as usize;
    }
    let saturation = spread * 255 / strongest * SATURATIONS / 256;
    // A sixth of the circle is 256 long; each hue has its pure colour in its middle.
    let part =
        |from: u32, upper: u32, lower: u32| from + upper * 256 / spread - lower * 256 / spread;
    let angle = match strongest {
        s if s == r => part(6 * 256, g - weakest, b - weakest),
        s if s == g => part(2 * 256, b - weakest, r - weakest),
        _ => part(4 * 256, r - weakest, g - weakest),
    };
    let step = 6 * 256 / HUES;
    let hue = (angle + step / 2) / step % HUES;
    ((hue * SATURATIONS + saturation) * VALUES + value) as usize
}

/// Each pixel's gradient, by its strength, to the direction it is nearest to.
fn count_edges(picture: &Picture, counts: &mut [u32]) {
    let luma_at = |x, y| i32::from(luma(picture.pixel(x, y)));
    for y in 1..HEIGHT - 1 {
        for x in 1..WIDTH - 1 {
            let across = luma_at(x + 1, y) - luma_at(x - 1, y);
            let down = luma_at(x, y + 1) - luma_at(x, y - 1);
            let cell = y * CELLS.1 / HEIGHT * CELLS.0 + x * CELLS.0 / WIDTH;
            // Largest plus half of the smaller is within 12 % of the true length.
            let (a, b) = (across.unsigned_abs(), down.unsigned_abs());
            counts[cell * DIRECTIONS + direction(across, down)] += a.max(b) + a.min(b) / 2;
        }
    }
}

/// 0 to 7, counter-clockwise from right; straight edges lie in the middle of a direction, not between two.
fn direction(across: i32, down: i32) -> usize {
    let (a, b) = (across.unsigned_abs(), down.unsigned_abs());
    // tan 22.5 degrees is very nearly 29/70.
    if b * 70 <= a * 29 {
        return if across >= 0 { 0 } else { 4 };
    }
    if a * 70 <= b * 29 {
        return if down < 0 { 2 } else { 6 };
    }
    match (across > 0, down < 0) {
        (true, true) => 1,
        (false, true) => 3,
        (false, false) => 5,
        (true, false) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_colours_lie_in_the_middle_of_their_hue() {
        let hue = |pixel| colour(pixel) / (SATURATIONS * VALUES) as usize;
        let near = [
            ([255, 0, 0], 0),
            ([255, 40, 0], 0),
            ([255, 0, 40], 0),
            ([255, 255, 0], 2),
            ([0, 255, 0], 4),
            ([0, 255, 255], 6),
            ([0, 0, 255], 8),
            ([255, 0, 255], 10),
        ];
        for (pixel, expected) in near {
            assert_eq!(hue(pixel), expected, "{pixel:?}");
        }
    }

    #[test]
    fn grey_has_no_hue_and_every_pixel_has_a_colour() {
        assert_eq!(colour([130, 125, 120]), colour([120, 125, 130]));
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(15) {
                for b in (0..=255).step_by(15) {
                    assert!(colour([r, g, b]) < COLOURS);
                }
            }
        }
    }

    #[test]
    fn directions_go_round() {
        let round = [(9, 0), (9, -9), (0, -9), (-9, -9), (-9, 0), (-9, 9), (0, 9), (9, 9)];
        for (expected, (across, down)) in round.into_iter().enumerate() {
            assert_eq!(direction(across, down), expected);
            // A little noise does not turn an edge.
            assert_eq!(direction(across * 10 + 9, down * 10 - 9), expected);
        }
    }
}
