//! The media child in process, on clips made with the ffmpeg command line, its output probed by ffprobe.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clips;
mod heard;
mod refusals;
mod sound;
mod sync;
mod tasks;
mod transcodes;
