//! Whether enough of a file was decoded to call the result the video. libav reports neither a truncated file nor a
//! stream in which nothing can be decoded.

use super::EngineError;
use super::decode::Decoder;
use super::input::Source;
use super::time::MICROSECONDS;
use crate::video::FailureCause;

/// For the decoders of picture and sound, as far as there are any, and the end of what they gave.
pub(super) fn check_complete(
    source: &Source,
    [picture, sound]: [Option<&Decoder>; 2],
    decoded_us: i64,
) -> Result<(), EngineError> {
    // A sound stream that cannot be decoded leaves a video without sound; a picture stream is what makes a video.
    if let Some(deciding) = picture.or(sound).filter(|decoder| decoder.frames() == 0) {
        let what = if picture.is_some() { "picture" } else { "sound" };
        if deciding.was_oversized() {
            return Err(EngineError::limit("its pictures are larger than is accepted"));
        }
        return Err(EngineError::corrupt(format!(
            "no {what} could be decoded ({})",
            deciding.last_error()
        )));
    }
    match source.declared_us {
        Some(declared) if is_truncated(decoded_us + source.skipped_us(), declared) => {
            Err(EngineError::refused(
                FailureCause::Truncated,
                format!(
                    "the file declares {} s and only {} s could be decoded: it is cut off",
                    seconds(declared),
                    seconds(decoded_us)
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// The pictures on their own: `end_us` is where the last one that was decoded ends. Sound that goes on must not hide that
/// they stop halfway, in a stream whose packets go on.
pub(super) fn check_pictures(
    source: &Source,
    pictures: &Decoder,
    end_us: i64,
) -> Result<(), EngineError> {
    let reach_us = source.pictures_reach_us();
    if !is_truncated(end_us, reach_us) {
        return Ok(());
    }
    let text = format!(
        "only {} of {} s of its pictures could be decoded",
        seconds(end_us),
        seconds(reach_us)
    );
    Err(if pictures.was_oversized() {
        EngineError::limit(format!("{text}: the others are larger than is accepted"))
    } else {
        EngineError::corrupt(format!("{text} ({})", pictures.last_error()))
    })
}

/// More than one second and more than 2 % are missing.
fn is_truncated(decoded_us: i64, declared_us: i64) -> bool {
    decoded_us < declared_us - MICROSECONDS.max(declared_us / 50)
}

fn seconds(us: i64) -> String {
    format!("{}.{}", us / MICROSECONDS, us % MICROSECONDS / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_or_two_percent_may_be_missing() {
        assert!(!is_truncated(9_000_000, 10_000_000));
        assert!(is_truncated(8_999_999, 10_000_000));
        assert!(!is_truncated(98_000_000, 100_000_000));
        assert!(is_truncated(97_999_999, 100_000_000));
    }

    #[test]
    fn seconds_have_one_decimal() {
        assert_eq!(seconds(59_960_000), "59.9");
    }
}
