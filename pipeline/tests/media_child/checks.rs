//! What holds for every transcode that ends well, checked by ffprobe and on the bytes of what came out.

use pipeline::media::protocol::RenditionKind;
use serde_json::Value;

use crate::clips::{Clips, Probed, Rendition, Said, probe};

/// Key frames and cuts agree to one tick of the video clock, in microseconds.
const TICK_US: i64 = 12;

/// Everything that must hold, whatever the source was.
#[track_caller]
pub(crate) fn check_outputs(clips: &Clips, said: &Said) {
    assert_eq!(said.failed, None);
    let done = said.done.as_ref().unwrap();
    let mut shifts = Vec::new();
    for (name, rendition) in &said.renditions {
        shifts.push(check_rendition(clips, name, rendition));
    }
    // Time zero of the source is the same moment in each: all are shifted by the same constant.
    assert!(shifts.iter().all(|shift| (shift - shifts[0]).abs() <= 30), "{shifts:?}");
    let video: Vec<(&String, &Rendition)> =
        said.renditions.iter().filter(|(_, r)| r.size().is_some()).collect();
    for (name, rendition) in &video {
        assert_eq!(rendition.starts_us(), video[0].1.starts_us(), "cuts of {name}");
        assert!(rendition.starts_us()[0] == 0);
        for segment in &rendition.segments {
            assert!(segment.duration_us < 4_500_000, "{name}: {} µs", segment.duration_us);
            assert!(starts_with_idr(&segment.bytes), "{name}: no IDR at {}", segment.start_us);
        }
    }
    let longest = said.renditions.values().map(Rendition::duration_us).max().unwrap();
    let declared = i64::try_from(done.duration_ms).unwrap() * 1000;
    assert!((longest - declared).abs() <= 50_000, "{longest} µs of {declared}");
    assert_eq!(said.poster.is_some(), !video.is_empty());
}

/// Answers by how much the packets stand later than the source.
#[track_caller]
fn check_rendition(clips: &Clips, name: &str, rendition: &Rendition) -> i64 {
    let (stream, packets) = probe(&rendition.file(clips, name));
    assert!(packets.windows(2).all(|p| p[0].dts < p[1].dts), "{name}: dts not rising");
    assert!(packets[0].dts >= 0, "{name}: first dts {}", packets[0].dts);
    assert!(packets.iter().all(|p| p.pts >= p.dts), "{name}: pts before dts");
    let starts = rendition.starts_us();
    let shift = packets.iter().map(|p| p.pts).min().unwrap() - starts[0];
    match rendition.kind {
        RenditionKind::Video { width, height, .. } => {
            check_pictures(name, (width, height), &rendition.codecs, &stream);
            let decoded: usize = stream["nb_read_frames"].as_str().unwrap().parse().unwrap();
            assert_eq!(decoded, packets.len(), "{name}: frames that decode");
            check_keys(name, &starts, shift, &packets);
        }
        RenditionKind::Audio { channels, sample_rate } => {
            assert_eq!(stream["codec_name"], "aac");
            assert_eq!(stream["channels"], channels);
            assert_eq!(stream["sample_rate"], sample_rate.to_string());
            assert_eq!(rendition.codecs, "mp4a.40.2");
        }
    }
    let shown = sorted_pts(&packets);
    let last = packets.iter().max_by_key(|p| p.pts).unwrap();
    // ffprobe knows no duration where all samples share one.
    let duration = match (last.duration, shown.as_slice()) {
        (0, [.., before, last]) => last - before,
        (known, _) => known,
    };
    let end = last.pts + duration - shift - starts[0];
    // Sample durations are steps of the decoding order: where pictures are far apart, the last one shown may have another's.
    let slack = if duration >= 400_000 { duration } else { 45_000 };
    assert!((end - rendition.duration_us()).abs() <= slack, "{name}: {end} against the segments");
    shift
}

#[track_caller]
fn check_pictures(name: &str, (width, height): (u32, u32), codecs: &str, stream: &Value) {
    assert_eq!(stream["codec_name"], "h264");
    let size = (stream["width"].as_u64(), stream["height"].as_u64());
    assert_eq!(size, (Some(width.into()), Some(height.into())), "{name}");
    assert_eq!(stream["pix_fmt"], "yuv420p");
    assert_eq!(stream["sample_aspect_ratio"], "1:1");
    assert_eq!(stream["color_range"], "tv");
    assert_eq!(stream["color_space"], "bt709");
    let level = stream["level"].as_u64().unwrap();
    assert_eq!(codecs, format!("avc1.6400{level:02x}"), "{name}");
}

/// Every cut has a key, and from one key to the next are at most 2.5 s: the grid of 2 s and the longest gap in it.
#[track_caller]
fn check_keys(name: &str, starts_us: &[i64], shift: i64, packets: &[Probed]) {
    let keys: Vec<i64> = packets.iter().filter(|p| p.key).map(|p| p.pts - shift).collect();
    for cut in starts_us {
        let key = keys.iter().any(|key| (key - cut).abs() <= TICK_US);
        assert!(key, "{name}: no key at {cut}");
    }
    assert!(keys.windows(2).all(|k| k[1] - k[0] <= 2_500_000), "{name}: keys at {keys:?}");
}

/// Whether the first picture of a media segment is an IDR: its `mdat` holds NAL units behind their lengths.
fn starts_with_idr(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let (size, name) = (word(rest), &rest[4..8]);
        if name == b"mdat" {
            rest = &rest[8..];
            break;
        }
        rest = &rest[size..];
    }
    loop {
        match rest[4] & 0x1f {
            5 => return true,
            1 => return false,
            _ => rest = &rest[4 + word(rest)..],
        }
    }
}

fn word(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
}

pub(crate) fn sorted_pts(packets: &[Probed]) -> Vec<i64> {
    let mut times: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
    times.sort_unstable();
    times
}

pub(crate) fn names(said: &Said) -> Vec<&str> {
    said.renditions.keys().map(String::as_str).collect()
}

pub(crate) fn size(said: &Said, name: &str) -> (u32, u32) {
    said.renditions[name].size().unwrap()
}
