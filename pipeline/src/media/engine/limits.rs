//! The bounds of what is accepted, checked by the declared facts before decoding and by the real ones while it runs.
//! Every refusal names the number that was found and the number that holds.

use super::EngineError;
use crate::media::protocol::Limits;
use crate::video::MediaFacts;

/// More pictures per second than any camera of a phone makes.
const MOST_PICTURES_PER_SECOND: f64 = 1_000.0;

pub(super) fn check_declared(facts: &MediaFacts, limits: &Limits) -> Result<(), EngineError> {
    if facts.duration_ms > limits.max_duration_ms {
        return Err(too_long(facts.duration_ms, limits));
    }
    let Some(video) = &facts.video else { return Ok(()) };
    check_size((video.width, video.height), limits)?;
    if video.frame_rate > MOST_PICTURES_PER_SECOND {
        return Err(EngineError::limit(format!(
            "{:.0} pictures per second, at most {MOST_PICTURES_PER_SECOND:.0} are accepted",
            video.frame_rate
        )));
    }
    let pixels = f64::from(video.width) * f64::from(video.height);
    #[expect(clippy::cast_precision_loss, reason = "a bound, and a text for people")]
    let (seconds, most) = (facts.duration_ms as f64 / 1000.0, limits.max_decoded_pixels as f64);
    if pixels * video.frame_rate * seconds > most {
        return Err(too_much_work(pixels * video.frame_rate * seconds, limits));
    }
    Ok(())
}

pub(super) fn too_much_work(pixels: f64, limits: &Limits) -> EngineError {
    EngineError::limit(format!(
        "its pictures have {:.1} billion pixels together, at most {} billion are accepted: make it shorter, smaller, \
         or of fewer pictures per second",
        pixels / 1e9,
        limits.max_decoded_pixels / 1_000_000_000
    ))
}

pub(super) fn too_long(duration_ms: u64, limits: &Limits) -> EngineError {
    let (found, most) = (duration_ms / 1000, limits.max_duration_ms / 1000);
    EngineError::limit(format!("{found} s long, at most {most} s are accepted"))
}

/// The limits hold for either orientation.
pub(super) fn check_size((width, height): (u32, u32), limits: &Limits) -> Result<(), EngineError> {
    let (long, short) = (width.max(height), width.min(height));
    let (most_long, most_short) =
        (limits.max_width.max(limits.max_height), limits.max_width.min(limits.max_height));
    if long <= most_long && short <= most_short {
        return Ok(());
    }
    Err(EngineError::limit(format!(
        "a picture of {width}×{height}, at most {most_long}×{most_short} are accepted"
    )))
}
