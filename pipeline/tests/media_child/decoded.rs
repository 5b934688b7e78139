//! Pictures as the ffmpeg command line decodes them, to be looked at sample by sample.

use std::path::Path;
use std::process::Command;

use crate::clips::probe_stream;

/// One picture of 8-bit 4:2:0, as it is coded: nothing scales or converts it on the way.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    samples: Vec<u8>,
}

/// All pictures of the first picture stream, in order, none repeated or dropped.
pub(crate) fn decode(path: &Path) -> Vec<Picture> {
    let stream = probe_stream(path);
    let number = |name: &str| usize::try_from(stream[name].as_u64().unwrap()).unwrap();
    let (width, height) = (number("width"), number("height"));
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-noautorotate", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough"])
        .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let size = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
    let pictures = output.stdout.chunks_exact(size);
    assert!(pictures.remainder().is_empty(), "{} bytes are left over", pictures.remainder().len());
    pictures.map(|samples| Picture { width, height, samples: samples.to_vec() }).collect()
}

impl Picture {
    pub(crate) fn luma(&self, x: usize, y: usize) -> u8 {
        self.samples[y * self.width + x]
    }

    /// Luma and both chroma samples at a place given in hundredths of the sides.
    pub(crate) fn at(&self, x_percent: usize, y_percent: usize) -> [u8; 3] {
        let (x, y) = (self.width * x_percent / 100, self.height * y_percent / 100);
        let (half_width, half_height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let chroma = self.width * self.height + y / 2 * half_width + x / 2;
        let other = chroma + half_width * half_height;
        [self.luma(x, y), self.samples[chroma], self.samples[other]]
    }

    pub(crate) fn mean_luma(&self) -> f64 {
        mean(self.samples[..self.width * self.height].iter().map(|&sample| f64::from(sample)))
    }

    /// How far rows stand out from their neighbours, on average: high where two moments are woven into one picture.
    pub(crate) fn combing(&self) -> f64 {
        let luma = |x, y| f64::from(self.luma(x, y));
        let places = (1..self.height - 1).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        mean(places.map(|(x, y)| {
            let around = f64::midpoint(luma(x, y - 1), luma(x, y + 1));
            (luma(x, y) - around).abs()
        }))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// Whether two colours are the same but for rounding and quantisation.
#[track_caller]
pub(crate) fn assert_close(found: [u8; 3], expected: [u8; 3], within: u8, what: &str) {
    let close = found.iter().zip(expected).all(|(f, e)| f.abs_diff(e) <= within);
    assert!(close, "{what}: {found:?}, not {expected:?}");
}

/// 8-bit luma and chroma of a screen's red, green and blue, by BT.709 in TV range.
pub(crate) fn bt709([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(|part| f64::from(part) / 255.0);
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let (cb, cr) = ((b - y) / 1.8556, (r - y) / 1.5748);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 16 to 240")]
    [16.0 + 219.0 * y, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr].map(|sample| sample.round() as u8)
}
