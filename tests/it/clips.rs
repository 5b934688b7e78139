//! The clips of the end-to-end tests, made by the ffmpeg command line on first use and kept under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A clip by its recipe: ffmpeg's arguments before the output. Made once, also when several tests ask at once.
pub(crate) fn clip(name: &str, recipe: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !path.exists() {
        let part = path.with_file_name(format!("{}-{name}", uuid::Uuid::now_v7()));
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y"])
            .args(recipe.split_whitespace())
            .arg(&part)
            .output()
            .expect("ffmpeg is on the PATH: make test installs it");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&part, &path).expect("the clip can be moved into place");
    }
    path
}

/// A moving picture with frame numbers, and a tone.
pub(crate) fn picture_and_tone(size: &str, rate: &str, seconds: f64) -> String {
    format!(
        "-f lavfi -i testsrc2=size={size}:rate={rate}:duration={seconds} \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds}"
    )
}

/// H.264 and AAC, quickly.
pub(crate) const H264_AAC: &str =
    "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -b:a 96k -shortest";
