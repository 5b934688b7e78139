//! The media child in process, on clips made with the ffmpeg command line, its output probed by ffprobe.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;
mod clips;
mod codecs;
mod colours;
mod decoded;
mod heard;
mod ladders;
mod limits;
mod refusals;
mod sound;
mod streams;
mod sync;
mod tasks;
mod times;
mod timestamps;
mod turns;
