//! How long a task may take at most, by what the source says of itself: measured work, times a generous factor for a slow or
//! busy machine and for content that is harder than what was measured. Pure.

use std::time::Duration;

use super::engine::{encoded_pixels, shown_rate};
use super::protocol::Task;
use crate::video::MediaFacts;

/// Processor time of one core, measured by `bench/media_cost.py` on noise in motion, several times harder than a camera's
/// pictures: picoseconds for a pixel, microseconds for a second of sound.
const DECODE_PIXEL_PS: u64 = 28_000;
const ENCODE_PIXEL_PS: u64 = 22_000;
const SOUND_SECOND_US: u64 = 9_000;
/// What a machine may be slower than the one that was measured, by itself and by what else it does.
const FACTOR: u32 = 10;
/// Start, opening, reading a source that is not fast, the last uploads.
const BASE: Duration = Duration::from_mins(5);

/// `max_frame_rate` is the one of the renditions.
pub(super) fn longest(task: &Task, facts: &MediaFacts, max_frame_rate: u32) -> Duration {
    let sound = Duration::from_micros(SOUND_SECOND_US.saturating_mul(facts.duration_ms) / 1000);
    let pictures = match (task, &facts.video) {
        (Task::ExtractAudio, _) | (_, None) => Duration::ZERO,
        (_, Some(video)) => {
            // One that does not say its rate has the usual ones at most.
            let declared =
                if video.frame_rate > 0.0 { video.frame_rate } else { f64::from(max_frame_rate) };
            let decoded = u64::from(video.width) * u64::from(video.height);
            let encoded = match task {
                Task::Transcode => encoded_pixels(video.width, video.height),
                _ => 0,
            };
            let each = |pixels: u64, rate: f64, ps: u64| {
                let pictures = pictures(facts.duration_ms, rate);
                Duration::from_nanos(pictures.saturating_mul(pixels.saturating_mul(ps) / 1000))
            };
            each(decoded, declared, DECODE_PIXEL_PS).saturating_add(each(
                encoded,
                shown_rate(declared, max_frame_rate),
                ENCODE_PIXEL_PS,
            ))
        }
    };
    BASE.saturating_add(sound.saturating_add(pictures).saturating_mul(FACTOR))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a count of pictures, rounded; a cast from float saturates"
)]
fn pictures(duration_ms: u64, rate: f64) -> u64 {
    (duration_ms as f64 * rate / 1000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::VideoFacts;

    fn facts(seconds: u64, width: u32, height: u32, frame_rate: f64) -> MediaFacts {
        let video = VideoFacts {
            codec: "h264".into(),
            width,
            height,
            frame_rate,
            rotation: 0,
            pixel_format: "yuv420p".into(),
        };
        MediaFacts {
            container: "mov".into(),
            duration_ms: seconds * 1000,
            video: Some(video),
            audio: None,
        }
    }

    fn minutes(task: &Task, facts: &MediaFacts) -> u64 {
        longest(task, facts, 60).as_secs() / 60
    }

    #[test]
    fn a_minute_of_full_hd_gets_minutes_and_an_hour_gets_hours() {
        let minute = minutes(&Task::Transcode, &facts(60, 1920, 1080, 30.0));
        assert!((10..60).contains(&minute), "{minute}");
        let hour = minutes(&Task::Transcode, &facts(3600, 1920, 1080, 30.0));
        assert!((600..3_600).contains(&hour), "{hour}");
    }

    #[test]
    fn what_is_not_encoded_costs_less_and_sound_hardly_anything() {
        let clip = facts(3600, 1920, 1080, 30.0);
        let sampled = Task::SampleFrames { per_second: 1.0, width: 32, height: 32 };
        assert!(minutes(&sampled, &clip) < minutes(&Task::Transcode, &clip) / 2);
        assert!(minutes(&Task::ExtractAudio, &clip) < 30);
    }

    #[test]
    fn absurd_facts_do_not_overflow() {
        let absurd = facts(u64::MAX / 1_000_000, u32::MAX, u32::MAX, 1e300);
        assert!(longest(&Task::Transcode, &absurd, 60) > Duration::from_hours(1000));
        let strip = facts(1, u32::MAX, 1080, 60.0);
        assert!(longest(&Task::Transcode, &strip, 60) > Duration::from_mins(10));
        let nothing = facts(1, 0, 0, f64::NAN);
        assert!(longest(&Task::Transcode, &nothing, 60) < Duration::from_mins(10));
    }
}
