//! Small real clips, made by the ffmpeg command line: a few kinds, no two with the same bytes, and what must come out.

use std::path::Path;

use tokio::process::Command;

/// A clip and what its renditions must hold.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    pub(crate) extension: &'static str,
    pub(crate) seconds: u32,
    /// Of the one picture stream.
    pub(crate) frames: u64,
    pub(crate) sound: bool,
    pub(crate) rungs: &'static [&'static str],
    recipe: String,
}

impl Clip {
    pub(crate) fn roll(dice: &mut fastrand::Rng) -> Self {
        let seconds = dice.u32(2..=4);
        let (extension, size, rate, codecs, sound, rungs): (_, _, _, _, _, &'static [_]) =
            match dice.u8(..6) {
                0 => ("mkv", "320x240", 25, "-c:v libx264 -preset ultrafast", false, &["480p"]),
                1 => ("mov", "426x240", 30, "-c:v mpeg4 -q:v 5 -c:a aac", true, &["480p"]),
                2 => (
                    "webm",
                    "240x426",
                    24,
                    "-c:v libvpx -deadline realtime -c:a libvorbis",
                    true,
                    &["480p"],
                ),
                3 => (
                    "mp4",
                    "1280x720",
                    25,
                    "-c:v libx264 -preset ultrafast -c:a aac",
                    true,
                    &["480p", "720p"],
                ),
                _ => (
                    "mp4",
                    "640x360",
                    30,
                    "-c:v libx264 -preset ultrafast -c:a aac",
                    true,
                    &["480p"],
                ),
            };
        let tone = if sound {
            format!(
                "-f lavfi -i sine=frequency={}:sample_rate=48000:duration={seconds}",
                dice.u16(200..900)
            )
        } else {
            String::new()
        };
        let recipe = format!(
            "-f lavfi -i testsrc2=size={size}:rate={rate}:duration={seconds} {tone} -pix_fmt yuv420p {codecs} \
             -metadata comment={}",
            dice.u64(..)
        );
        Self { extension, seconds, frames: u64::from(seconds * rate), sound, rungs, recipe }
    }

    /// Its bytes.
    pub(crate) async fn make(&self, directory: &Path) -> Vec<u8> {
        let file = directory.join(format!("{}.{}", uuid::Uuid::now_v7(), self.extension));
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin"])
            .args(self.recipe.split_whitespace())
            .arg(&file)
            .output()
            .await
            .expect("ffmpeg is on the PATH: the set-up installs it");
        assert!(output.status.success(), "{self:?}: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = tokio::fs::read(&file).await.expect("the clip");
        tokio::fs::remove_file(&file).await.expect("it was there");
        bytes
    }
}
