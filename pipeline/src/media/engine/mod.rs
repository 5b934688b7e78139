//! libav behind owned wrappers, seen only by the media child: open, time line, filters, encoders, fragments.
//! Nothing here knows where the bytes come from or go to. `unsafe` lives in [`ffi`] alone.
//!
//! ```text
//! sniff → input → timeline → decode ─┬─ picture → pacing → rungs (a thread each) ─┬─ assemble → messages
//!                                    └─ sound → aac ─────────────────────────────┘
//! ```

mod aac;
mod assemble;
mod budget;
mod check;
mod colours;
mod declared;
mod decode;
mod error;
mod feeder;
mod ffi;
mod fragments;
mod frames;
mod graph;
mod guarded;
mod input;
mod ladder;
mod limits;
mod open;
mod orientation;
mod pacing;
mod pcm;
mod picture;
mod picture_side;
mod pictures;
mod poster;
mod remote;
mod rung;
mod sample_line;
mod shape;
mod sniff;
mod sound;
mod sound_side;
mod speaker;
mod time;
mod timeline;
mod transcode;
mod verdict;

pub(super) use error::EngineError;
pub(super) use ladder::encoded_pixels;
pub(super) use pacing::shown_rate;
pub(super) use remote::RemoteFile;
pub(super) use speaker::Speaker;

use super::protocol::{Request, Task};

/// Does what the request asks and says everything but a refusal.
pub(super) fn run(
    request: &Request,
    file: RemoteFile,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    ffi::check_libraries()?;
    speaker.bound(request.limits.max_output_bytes);
    match request.task {
        Task::Transcode => transcode::run(request, file, speaker),
        Task::ExtractAudio => pcm::run(request, file, speaker),
        Task::SampleFrames { per_second, width, height } => {
            frames::run(request, file, frames::Grid { per_second, width, height }, speaker)
        }
        Task::CheckSegment => check::run(request, file, speaker),
    }
}
