//! The look of a video: palette, where the colours are, and the directions of its edges, as a vector of 256 numbers.
//! It says that two videos look alike, not that they show the same thing, and it must never decide about duplicates.
//!
//! Pure and exact: all that is counted are integers, and the few roots are those that IEEE 754 defines to the last bit,
//! so the same pictures give the same vector on every machine. Version: `look-1`; any change of a number here is a new one.
//!
//! Pictures come in small and in order. Memory is bounded: they are only held until the bars are known.

mod bars;
mod descriptor;

use bars::Picture;
use descriptor::{DESCRIPTOR, describe};

/// Width and height of a picture that is looked at, whatever its shape was.
pub(super) const SIZE: (u32, u32) = (96, 54);
const WIDTH: usize = SIZE.0 as usize;
const HEIGHT: usize = SIZE.1 as usize;
pub(super) const PER_SECOND: f64 = 2.0;
/// Length of a vector.
pub(super) const DIMS: usize = 256;
/// Pictures of ten minutes, 19 MB. The bars of a longer video are those of its first ten minutes.
const HELD: usize = 1_200;
pub(super) const SEGMENT_MS: u64 = 4_000;
const SEGMENT_US: i64 = 1_000 * SEGMENT_MS.cast_signed();
const SEED: u64 = 0x636c_6970_7374_7265; // "clipstre"

/// Of length 1.
pub(super) type Vector = [f32; DIMS];

/// Looks at the pictures of one video.
#[derive(Default)]
pub(super) struct Look {
    held: Vec<(i64, Picture)>,
    bars: Option<bars::Frame>,
    open: Option<OpenSegment>,
    segments: Vec<Segment>,
}

/// A picture that was not sampled for us.
#[derive(Debug, thiserror::Error)]
#[error("a sampled picture has {0} bytes instead of {expected}", expected = WIDTH * HEIGHT * 3)]
pub(super) struct WrongSize(usize);

/// Four seconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) start_us: i64,
    pub(super) frames: u32,
    pub(super) vector: Vector,
}

struct OpenSegment {
    number: i64,
    frames: u32,
    sum: [f32; DESCRIPTOR],
}

impl Look {
    /// The next picture: RGB24 of [`SIZE`].
    pub(super) fn push(&mut self, time_us: i64, rgb: &[u8]) -> Result<(), WrongSize> {
        let picture = Picture::try_from(rgb)?;
        if let Some(bars) = self.bars {
            self.look(bars, time_us, &picture);
            return Ok(());
        }
        self.held.push((time_us, picture));
        if self.held.len() == HELD {
            self.settle();
        }
        Ok(())
    }

    /// All segments that hold pictures, in order. None: there were no pictures.
    pub(super) fn finish(mut self) -> Vec<Segment> {
        self.settle();
        self.close();
        self.segments
    }

    /// Decides where the bars are and looks at what was held.
    fn settle(&mut self) {
        let held = std::mem::take(&mut self.held);
        let bars = *self.bars.get_or_insert_with(|| bars::find(held.iter().map(|(_, p)| p)));
        for (time_us, picture) in held {
            self.look(bars, time_us, &picture);
        }
    }

    fn look(&mut self, bars: bars::Frame, time_us: i64, picture: &Picture) {
        let number = time_us.max(0) / SEGMENT_US;
        if self.open.as_ref().is_some_and(|open| open.number != number) {
            self.close();
        }
        let empty = || OpenSegment { number, frames: 0, sum: [0.0; DESCRIPTOR] };
        let open = self.open.get_or_insert_with(empty);
        open.frames += 1;
        let descriptor = describe(&bars.crop(picture));
        open.sum.iter_mut().zip(&descriptor).for_each(|(sum, value)| *sum += value);
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(vector) = unit(&project(&open.sum)) {
            self.segments.push(Segment {
                start_us: open.number * SEGMENT_US,
                frames: open.frames,
                vector,
            });
        }
    }
}

/// The whole video: the mean of its segments. `None` without segments.
pub(super) fn mean(segments: &[Segment]) -> Option<Vector> {
    let mut sum = [0.0; DIMS];
    for segment in segments {
        sum.iter_mut().zip(&segment.vector).for_each(|(sum, value)| *sum += value);
    }
    unit(&sum)
}

/// From a descriptor to [`DIMS`] numbers by signs that look random and never change: distances survive.
fn project(descriptor: &[f32; DESCRIPTOR]) -> Vector {
    let mut vector = [0.0; DIMS];
    let mut signs = SplitMix(SEED);
    for value in descriptor {
        for chunk in vector.chunks_exact_mut(64) {
            let signs = signs.next();
            for (bit, number) in chunk.iter_mut().enumerate() {
                *number += if signs >> bit & 1 == 1 { *value } else { -*value };
            }
        }
    }
    vector
}

/// `None` for what has no direction.
fn unit(vector: &Vector) -> Option<Vector> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    (length > 0.0).then(|| vector.map(|x| x / length))
}

/// Sebastiano Vigna's `SplitMix64`: fixed by its seed for ever, which generators of crates do not promise.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests;
