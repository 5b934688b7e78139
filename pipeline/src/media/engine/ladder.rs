//! The ladder: which renditions a picture gets, and what each may cost. Pure.
//!
//! Rungs are 480, 720 and 1080 lines of the *short* side, so that a portrait clip gets the same quality as a landscape
//! one. Nothing is enlarged: a picture below 480 lines gets one rung of its own size, under the name `480p`.

/// One video rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rung {
    pub(super) name: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Most bits per second that the encoder may spend.
    pub(super) max_rate: u64,
}

struct Step {
    name: &'static str,
    lines: u32,
    /// At 16:9; other shapes are scaled by their pixels.
    max_rate: u64,
}

const STEPS: [Step; 3] = [
    Step { name: "1080p", lines: 1080, max_rate: 6_000_000 },
    Step { name: "720p", lines: 720, max_rate: 3_000_000 },
    Step { name: "480p", lines: 480, max_rate: 1_400_000 },
];

/// Below this the scaler and the encoder have nothing to work with.
const SMALLEST_SIDE: u32 = 16;
const SMALLEST_RATE: u64 = 150_000;

/// The rungs for an upright picture with square pixels, largest first; never empty.
pub(super) fn rungs(width: u32, height: u32) -> Vec<Rung> {
    let short = width.min(height);
    let rungs: Vec<Rung> = STEPS
        .iter()
        .filter(|step| step.lines <= short)
        .map(|step| rung(step, even(width, step.lines, short), even(height, step.lines, short)))
        .collect();
    if rungs.is_empty() {
        return vec![rung(&STEPS[2], even(width, 1, 1), even(height, 1, 1))];
    }
    rungs
}

/// Pixels of one picture in all its rungs together.
pub(in crate::media) fn encoded_pixels(width: u32, height: u32) -> u64 {
    rungs(width, height).iter().map(|rung| u64::from(rung.width) * u64::from(rung.height)).sum()
}

fn rung(step: &Step, width: u32, height: u32) -> Rung {
    let lines = u64::from(step.lines);
    let pixels = u64::from(width) * u64::from(height);
    let max_rate =
        (step.max_rate.saturating_mul(pixels) / (lines * lines * 16 / 9)).max(SMALLEST_RATE);
    Rung { name: step.name, width, height, max_rate }
}

/// `side × to / from`, to the nearest even number.
fn even(side: u32, to: u32, from: u32) -> u32 {
    let exact = u64::from(side) * u64::from(to);
    let half = (exact + u64::from(from)) / (2 * u64::from(from).max(1));
    u32::try_from(half * 2).unwrap_or(u32::MAX - 1).max(SMALLEST_SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(width: u32, height: u32) -> Vec<(&'static str, u32, u32)> {
        rungs(width, height).into_iter().map(|r| (r.name, r.width, r.height)).collect()
    }

    #[test]
    fn full_hd_gets_three_rungs_and_portrait_the_same_turned() {
        assert_eq!(
            sizes(1920, 1080),
            [("1080p", 1920, 1080), ("720p", 1280, 720), ("480p", 854, 480)]
        );
        assert_eq!(
            sizes(1080, 1920),
            [("1080p", 1080, 1920), ("720p", 720, 1280), ("480p", 480, 854)]
        );
    }

    #[test]
    fn nothing_is_enlarged() {
        assert_eq!(sizes(1280, 720), [("720p", 1280, 720), ("480p", 854, 480)]);
        assert_eq!(sizes(1600, 900), [("720p", 1280, 720), ("480p", 854, 480)]);
        assert_eq!(sizes(3840, 2160)[0], ("1080p", 1920, 1080));
        assert_eq!(sizes(320, 240), [("480p", 320, 240)]);
    }

    #[test]
    fn odd_sizes_become_even() {
        assert_eq!(sizes(853, 481), [("480p", 852, 480)]);
        assert_eq!(sizes(321, 241), [("480p", 322, 242)]);
        assert_eq!(sizes(1, 1), [("480p", 16, 16)]);
    }

    #[test]
    fn the_rate_follows_the_pixels() {
        let rates: Vec<_> = rungs(1920, 1080).iter().map(|r| r.max_rate).collect();
        assert_eq!(rates[0], 6_000_000);
        assert_eq!(rates[1], 3_000_000);
        assert!(rates[2].abs_diff(1_400_000) < 5_000);
        assert_eq!(rungs(320, 240)[0].max_rate, 262_500);
        assert_eq!(rungs(64, 64)[0].max_rate, SMALLEST_RATE);
    }
}
