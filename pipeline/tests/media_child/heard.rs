//! What a viewer hears and sees of a rendition: decoded by the ffmpeg command line, with the times that stand in the file.

use std::path::Path;
use std::process::Command;

use crate::clips::{Clips, Rendition, Said, probe_packets};

pub(crate) const RATE: i64 = 48_000;

/// Decoded sound of the output.
pub(crate) struct Heard {
    /// One vector per channel.
    pub(crate) channels: Vec<Vec<f32>>,
    /// When the first sample is heard, on the output's clock.
    pub(crate) start_us: i64,
    /// How much later than the source's clock that is.
    pub(crate) shift_us: i64,
}

impl Heard {
    /// The sound of a transcode that ended well.
    pub(crate) fn of(clips: &Clips, said: &Said) -> Self {
        assert_eq!(said.failed, None);
        let rendition = &said.renditions["audio"];
        let file = rendition.file(clips, "heard");
        let (start_us, shift_us) = clock(rendition, &file);
        let count = match rendition.kind {
            pipeline::media::protocol::RenditionKind::Audio { channels, .. } => channels,
            pipeline::media::protocol::RenditionKind::Video { .. } => panic!("sound"),
        };
        let bytes = decode(&file, &["-map", "0:a", "-f", "f32le", "-c:a", "pcm_f32le"]);
        let mut channels = vec![Vec::new(); usize::from(count)];
        for (index, sample) in bytes.chunks_exact(4).enumerate() {
            let sample = f32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]]);
            channels[index % usize::from(count)].push(sample);
        }
        Self { channels, start_us, shift_us }
    }

    /// Samples of a channel between two moments of the source, in milliseconds.
    pub(crate) fn between(&self, channel: usize, from_ms: i64, to_ms: i64) -> &[f32] {
        let index = |ms: i64| {
            let us = ms * 1000 + self.shift_us - self.start_us;
            usize::try_from(us * RATE / 1_000_000).unwrap()
        };
        let all = &self.channels[channel];
        &all[index(from_ms).min(all.len())..index(to_ms).min(all.len())]
    }

    pub(crate) fn peak(&self) -> f32 {
        self.channels.iter().flatten().fold(0.0, |peak, sample| sample.abs().max(peak))
    }

    /// When sound begins after silence, in microseconds of the output's clock.
    pub(crate) fn onsets(&self) -> Vec<i64> {
        onsets(&self.channels[0], RATE, self.start_us)
    }

    /// The same on the source's clock.
    pub(crate) fn source_onsets(&self) -> Vec<i64> {
        self.onsets().iter().map(|at| at - self.shift_us).collect()
    }

    /// How long it is heard.
    pub(crate) fn duration_ms(&self) -> i64 {
        i64::try_from(self.channels[0].len()).unwrap() * 1000 / RATE
    }
}

/// When a file of ours begins on its own clock, and how much later than the source's that is.
fn clock(rendition: &Rendition, file: &Path) -> (i64, i64) {
    let first = probe_packets(file).iter().map(|packet| packet.pts).min().unwrap();
    (first, first - rendition.segments[0].start_us)
}

/// Loud after a tenth of a second of less.
pub(crate) fn onsets(samples: &[f32], rate: i64, start_us: i64) -> Vec<i64> {
    const LOUD: f32 = 0.2;
    let quiet_samples = usize::try_from(rate / 10).unwrap();
    let mut quiet = quiet_samples;
    let mut found = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        if sample.abs() < LOUD {
            quiet += 1;
            continue;
        }
        if quiet >= quiet_samples {
            found.push(start_us + i64::try_from(index).unwrap() * 1_000_000 / rate);
        }
        quiet = 0;
    }
    found
}

/// When a white picture comes after a black one, on the output's clock, and the shift against the source's.
pub(crate) fn flashes(clips: &Clips, said: &Said) -> (Vec<i64>, i64) {
    let rendition = &said.renditions["480p"];
    let file = rendition.file(clips, "seen");
    let mut times: Vec<i64> = probe_packets(&file).iter().map(|packet| packet.pts).collect();
    times.sort_unstable();
    let (_, shift_us) = clock(rendition, &file);
    let pictures = decode(
        &file,
        &[
            "-map",
            "0:v",
            "-fps_mode",
            "passthrough",
            "-vf",
            "scale=1:1",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
        ],
    );
    assert_eq!(pictures.len(), times.len(), "one grey pixel per picture");
    let white: Vec<bool> = pictures.iter().map(|grey| *grey > 128).collect();
    let begun = |n: &usize| white[*n] && !white[*n - 1];
    ((1..white.len()).filter(begun).map(|n| times[n]).collect(), shift_us)
}

pub(crate) fn decode(file: &Path, output: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(file)
        .args(output)
        .arg("-")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    output.stdout
}

pub(crate) fn rms(samples: &[f32]) -> f32 {
    let square: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let count = f64::from(u32::try_from(samples.len().max(1)).unwrap());
    #[expect(clippy::cast_possible_truncation, reason = "a level between 0 and 1")]
    let level = (square / count).sqrt() as f32;
    level
}

/// Of a pure tone, in Hz.
pub(crate) fn pitch(samples: &[f32]) -> i64 {
    let crossings = samples.windows(2).filter(|s| (s[0] < 0.0) != (s[1] < 0.0)).count();
    i64::try_from(crossings).unwrap() * RATE / i64::try_from(samples.len()).unwrap() / 2
}
