//! The proof that what was published can be played: every segment is there, the durations add up, both ends decode.
//! It asks storage and the media child, never the memory of the attempt that wrote it alone. What does not hold makes
//! the attempt fail before its commit, so the video is not `ready` by mistake.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::hls::{Segment, TARGET_DURATION_S, Track};
use super::{StageContext, StageError};
use crate::media::MediaError;
use crate::media::protocol::{Limits, MAX_PAYLOAD_BYTES, Message, RenditionKind, Request, Task};
use crate::storage::StorageKey;
use crate::video::{FailureCause, MediaFacts};

/// A frame at the slowest usual rate, and a little.
const TOLERANCE_US: i64 = 100_000;
/// Decoding one segment takes well under a second; this is for a machine that is busy with something else.
const CHECK_DEADLINE: Duration = Duration::from_mins(2);
const LISTING_PAGE: u16 = 1000;

pub(super) async fn verify(
    context: &StageContext,
    tracks: &[Track],
    facts: &MediaFacts,
) -> Result<(), StageError> {
    durations_add_up(tracks, facts).map_err(invalid)?;
    for track in tracks {
        every_segment_is_there(context, track).await?;
        let ends = [track.segments.first(), track.segments.last()];
        let count = if track.segments.len() == 1 { 1 } else { 2 };
        for segment in ends.into_iter().flatten().take(count) {
            decodes(context, track, segment).await?;
        }
    }
    Ok(())
}

/// Nothing is missing between segments, no segment is longer than the playlists promise, and the renditions
/// together last as long as what was decoded.
fn durations_add_up(tracks: &[Track], facts: &MediaFacts) -> Result<(), String> {
    let longest_allowed_us = i64::from(TARGET_DURATION_S) * 1_000_000 + 500_000;
    for track in tracks {
        for pair in track.segments.windows(2) {
            let end_us = pair[0].start_us + pair[0].duration_us;
            if (pair[1].start_us - end_us).abs() > TOLERANCE_US {
                return Err(format!(
                    "segment {} of {} ends at {end_us} us and the next starts at {} us",
                    pair[0].number, track.name, pair[1].start_us
                ));
            }
        }
        if let Some(long) = track.segments.iter().find(|s| s.duration_us >= longest_allowed_us) {
            return Err(format!(
                "segment {} of {} lasts {} us, more than its playlist promises",
                long.number, track.name, long.duration_us
            ));
        }
    }
    let rungs = || tracks.iter().filter(|t| matches!(t.kind, RenditionKind::Video { .. }));
    let cuts = |track: &Track| track.segments.iter().map(|s| s.start_us).collect::<Vec<_>>();
    if let Some(odd) = rungs().find(|track| rungs().next().map(cuts) != Some(cuts(track))) {
        return Err(format!("{} is not cut where the other renditions are", odd.name));
    }
    // One stream may start later or end earlier than the other, so the whole is what they span together.
    let segments = || tracks.iter().flat_map(|track| &track.segments);
    let start_us = segments().map(|segment| segment.start_us).min().unwrap_or(0);
    let end_us = segments().map(|segment| segment.start_us + segment.duration_us).max();
    let published_us = end_us.unwrap_or(0) - start_us;
    let decoded_us = i64::try_from(facts.duration_ms).unwrap_or(i64::MAX).saturating_mul(1000);
    if (published_us - decoded_us).abs() > TOLERANCE_US {
        return Err(format!("{published_us} us are published and {decoded_us} us were decoded"));
    }
    Ok(())
}

async fn every_segment_is_there(context: &StageContext, track: &Track) -> Result<(), StageError> {
    let init = init_key(context, track).to_string();
    let prefix = &init[..=init.rfind('/').unwrap_or(0)];
    let mut stored = HashMap::new();
    let mut after = String::new();
    loop {
        let page = context.tools.storage.list(prefix, &after, LISTING_PAGE).await;
        let page = page.map_err(StageError::of_storage)?;
        let last = page.len() < usize::from(LISTING_PAGE);
        after = page.last().map(|object| object.key.clone()).unwrap_or_default();
        stored.extend(page.into_iter().map(|object| (object.key, object.size_bytes)));
        if last {
            break;
        }
    }
    if stored.get(&init).is_none_or(|size_bytes| *size_bytes == 0) {
        return Err(invalid(format!("{init} is missing")));
    }
    for segment in &track.segments {
        let key = segment_key(context, track, segment).to_string();
        match stored.get(&key) {
            Some(size_bytes) if *size_bytes == segment.size_bytes => {}
            Some(size_bytes) => {
                let written = segment.size_bytes;
                return Err(invalid(format!("{key} has {size_bytes} bytes, not {written}")));
            }
            None => return Err(invalid(format!("{key} is missing"))),
        }
    }
    Ok(())
}

/// The segment as a player gets it: after its init segment, from storage, decoded to its end.
async fn decodes(
    context: &StageContext,
    track: &Track,
    segment: &Segment,
) -> Result<(), StageError> {
    let key = segment_key(context, track, segment);
    let init = get(context, &init_key(context, track)).await?;
    let body = get(context, &key).await?;
    let request = Request { limits: Limits::default(), task: Task::CheckSegment };
    let deadline = CHECK_DEADLINE.min(context.deadline);
    let mut child = context.tools.media.start(request, [init, body].concat(), deadline).await?;
    let mut decoded_frames = 0;
    loop {
        match child.next().await {
            Ok(Some((Message::Checked { frames, .. }, _))) => decoded_frames = frames,
            Ok(Some(_)) => {}
            Ok(None) => break,
            // It refuses a file of our own making: ours is wrong, not the user's.
            Err(MediaError::Failed { detail, .. }) => {
                return Err(invalid(format!("{key} does not decode: {detail}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if decoded_frames == 0 {
        return Err(invalid(format!("{key} decodes to nothing")));
    }
    Ok(())
}

async fn get(context: &StageContext, key: &StorageKey) -> Result<Bytes, StageError> {
    let got = context.tools.storage.get(&key.to_string(), u64::from(MAX_PAYLOAD_BYTES)).await;
    Ok(got.map_err(StageError::of_storage)?.0)
}

fn init_key(context: &StageContext, track: &Track) -> StorageKey {
    let (video, attempt) = (context.lease.video, context.lease.attempt);
    StorageKey::InitSegment { video, attempt, rendition: track.name.clone() }
}

fn segment_key(context: &StageContext, track: &Track, segment: &Segment) -> StorageKey {
    let (video, attempt) = (context.lease.video, context.lease.attempt);
    let (rendition, number) = (track.name.clone(), segment.number);
    StorageKey::Segment { video, attempt, rendition, number }
}

fn invalid(detail: String) -> StageError {
    StageError::Retry { cause: FailureCause::OutputInvalid, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(name: &str, durations_us: &[i64]) -> Track {
        let mut start_us = 0;
        let segments = (1..).zip(durations_us).map(|(number, duration_us)| {
            let segment = Segment { number, start_us, duration_us: *duration_us, size_bytes: 1000 };
            start_us += duration_us;
            segment
        });
        Track {
            name: name.into(),
            codecs: "avc1.64001f".into(),
            kind: RenditionKind::Video { width: 854, height: 480, frame_rate: 30.0 },
            planned_bits_per_second: 1_000_000,
            segments: segments.collect(),
        }
    }

    fn decoded(duration_ms: u64) -> MediaFacts {
        MediaFacts { container: "mov".into(), duration_ms, video: None, audio: None }
    }

    #[test]
    fn what_was_decoded_must_be_published() {
        let whole = [track("480p", &[2_000_000, 2_000_000, 3_966_667])];
        assert_eq!(durations_add_up(&whole, &decoded(8_000)), Ok(()));
        assert!(durations_add_up(&whole, &decoded(8_500)).is_err(), "half a second is missing");
        assert!(durations_add_up(&whole, &decoded(4_000)).is_err(), "too much is published");
    }

    #[test]
    fn a_hole_between_segments_is_found() {
        let mut holed = track("480p", &[2_000_000, 2_000_000, 4_000_000]);
        holed.segments.remove(1);
        assert!(durations_add_up(&[holed], &decoded(8_000)).is_err());
    }

    #[test]
    fn renditions_that_are_cut_at_different_times_are_found() {
        let pair = [track("480p", &[2_000_000, 4_000_000]), track("720p", &[2_050_000, 3_950_000])];
        assert!(durations_add_up(&pair, &decoded(6_000)).is_err());
    }

    #[test]
    fn a_segment_over_the_target_duration_is_found() {
        let long = [track("480p", &[4_600_000])];
        assert!(durations_add_up(&long, &decoded(4_600)).is_err());
        let rounded_down = [track("480p", &[4_400_000])];
        assert_eq!(durations_add_up(&rounded_down, &decoded(4_400)), Ok(()));
    }
}
