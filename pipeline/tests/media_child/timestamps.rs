//! Time stamps that are damaged where they stand in the file. Whatever a clock says, what comes out is never longer than
//! twice what was decoded: an hour in a time stamp must not become an hour of filling.

use std::ops::Range;

use crate::clips::{Clips, TONE, transcode};

const SECONDS: u64 = 4;
/// Moving picture and tone, with many groups and no reordering, so that each stamp is one place in the file.
const CODING: &str =
    "-c:v libx264 -preset ultrafast -bf 0 -g 12 -pix_fmt yuv420p -c:a aac -shortest";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Track {
    Picture,
    Sound,
}

fn clip(clips: &Clips, name: &str, more: &str) -> Vec<u8> {
    let path = clips.make(
        name,
        &format!("-f lavfi -i testsrc2=160x120:r=25:d={SECONDS} {TONE} {CODING} {more}"),
    );
    std::fs::read(path).unwrap()
}

/// Runs a damaged file through the child: it ends well or with a cause, and is never longer than twice its content.
#[track_caller]
fn stays_bounded(clips: &Clips, name: &str, bytes: &[u8]) {
    let said = transcode(&clips.write("damaged", bytes));
    let most_ms = 2 * SECONDS * 1000;
    for (rendition, made) in &said.renditions {
        let made_ms = u64::try_from(made.duration_us() / 1000).unwrap();
        assert!(made_ms <= most_ms, "{name}: {made_ms} ms of {rendition}");
    }
    match (&said.done, &said.failed) {
        (Some(facts), _) => {
            assert!((1..=most_ms).contains(&facts.duration_ms), "{name}: {} ms", facts.duration_ms);
        }
        (None, failed) => assert!(failed.is_some(), "{name}"),
    }
}

/// The stamps of the first, a middle and the last packet of a track, alone and together with the other's.
fn damages(places: &[(Track, usize)]) -> Vec<(String, Vec<usize>)> {
    let of = |track| places.iter().filter(move |(t, _)| *t == track).map(|(_, at)| *at);
    let mut damages = Vec::new();
    for track in [Track::Picture, Track::Sound] {
        let all: Vec<usize> = of(track).collect();
        assert!(all.len() > 5, "{track:?}: {}", all.len());
        for n in [0, all.len() / 2, all.len() - 1] {
            damages.push((format!("{track:?} {n}"), vec![all[n]]));
        }
    }
    let both: Vec<usize> = [Track::Picture, Track::Sound]
        .into_iter()
        .filter_map(|track| of(track).nth(of(track).count() / 2))
        .collect();
    damages.push(("both".into(), both));
    damages
}

#[test]
fn in_a_transport_stream() {
    let clips = Clips::new();
    let bytes = clip(&clips, "clip.ts", "");
    let places: Vec<(Track, usize)> = (0..bytes.len() / 188)
        .filter_map(|n| {
            let packet = &bytes[n * 188..(n + 1) * 188];
            // A packet that starts a PES, after its adaptation field.
            let starts = packet[1] & 0x40 != 0;
            let skip = if packet[3] & 0x20 == 0 { 4 } else { 5 + usize::from(packet[4]) };
            let pes = packet.get(skip..skip + 14).filter(|_| starts)?;
            let track = match pes {
                [0, 0, 1, 0xe0..=0xef, ..] => Track::Picture,
                [0, 0, 1, 0xc0..=0xdf, ..] => Track::Sound,
                _ => return None,
            };
            (pes[7] & 0x80 != 0).then_some((track, n * 188 + skip + 9))
        })
        .collect();
    for (name, at) in damages(&places) {
        let mut damaged = bytes.clone();
        for at in at {
            // An hour: the upper bits of the 33-bit stamp, and of the dts behind it if there is one.
            for stamp in if damaged[at] & 0x10 == 0 { vec![at] } else { vec![at, at + 5] } {
                damaged[stamp] ^= 0b0000_0010;
                damaged[stamp + 1] ^= 0b0011_0000;
            }
        }
        assert_ne!(damaged, bytes);
        stays_bounded(&clips, &format!("ts {name}"), &damaged);
    }
}

#[test]
fn in_a_flash_video() {
    let clips = Clips::new();
    let bytes = clip(&clips, "clip.flv", "");
    let mut places = Vec::new();
    let mut at = 9 + 4;
    while at + 11 <= bytes.len() {
        let size = u32::from_be_bytes([0, bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        match bytes[at] {
            9 => places.push((Track::Picture, at + 4)),
            8 => places.push((Track::Sound, at + 4)),
            _ => {}
        }
        at += 11 + size + 4;
    }
    for (name, at) in damages(&places) {
        let mut damaged = bytes.clone();
        for at in at {
            // 3,600,000 ms more, about.
            damaged[at] = damaged[at].wrapping_add(0x36);
        }
        stays_bounded(&clips, &format!("flv {name}"), &damaged);
        // The extension byte: 194 days.
        let mut damaged = bytes.clone();
        damaged[places[places.len() / 2].1 + 3] = 1;
        stays_bounded(&clips, "flv extended", &damaged);
    }
}

#[test]
fn in_matroska() {
    let clips = Clips::new();
    let bytes = clip(&clips, "clip.mkv", "-cluster_time_limit 500");
    // SimpleBlocks: 0xa3, a size of 1 or 2 bytes, the track as one byte, and a relative stamp of 16 bits.
    let mut places = Vec::new();
    let clusters: Vec<usize> = find(&bytes, &[0x1f, 0x43, 0xb6, 0x75]);
    assert!(clusters.len() > 3, "{}", clusters.len());
    let mut own_stamps = Vec::new();
    for (cluster, next) in clusters.iter().zip(clusters[1..].iter().chain([&bytes.len()])) {
        let (_, size_bytes) = variable(&bytes, cluster + 4);
        let mut at = cluster + 4 + size_bytes;
        // The cluster's own stamp comes first, but for a checksum that nobody looks at.
        if bytes[at] == 0xbf {
            at += 6;
        }
        assert_eq!(bytes[at], 0xe7);
        let (length, size_bytes) = variable(&bytes, at + 1);
        own_stamps.push(at + 1 + size_bytes..at + 1 + size_bytes + length);
        at += 1 + size_bytes + length;
        while at + 8 < *next && bytes[at] == 0xa3 {
            let (length, size_bytes) = variable(&bytes, at + 1);
            let block = at + 1 + size_bytes;
            let track = if bytes[block] == 0x81 { Track::Picture } else { Track::Sound };
            places.push((track, block + 1));
            at = block + length;
        }
    }
    for (name, at) in damages(&places) {
        for stamp in [[0x7f, 0xff], [0x80, 0x00]] {
            let mut damaged = bytes.clone();
            for &at in &at {
                damaged[at..at + 2].copy_from_slice(&stamp);
            }
            stays_bounded(&clips, &format!("mkv {name} {stamp:?}"), &damaged);
        }
    }
    // The stamp of a whole cluster: a minute later than it is, for all that is in it.
    for stamp in own_stamps.into_iter().filter(|stamp| stamp.len() == 2) {
        let mut damaged = bytes.clone();
        damaged[stamp].fill(0xff);
        stays_bounded(&clips, "mkv cluster", &damaged);
    }
}

/// A size as EBML writes it, and how many bytes it takes.
fn variable(bytes: &[u8], at: usize) -> (usize, usize) {
    let length = bytes[at].leading_zeros() as usize + 1;
    let first = usize::from(bytes[at]) & ((1 << (8 - length)) - 1);
    let rest = &bytes[at + 1..at + length];
    (rest.iter().fold(first, |value, &byte| value << 8 | usize::from(byte)), length)
}

#[test]
fn in_an_mp4() {
    let clips = Clips::new();
    let bytes = clip(&clips, "clip.mp4", "");
    let tables = find(&bytes, b"stts");
    assert_eq!(tables.len(), 2, "one table of each track");
    let each = [vec![tables[0]], vec![tables[1]], tables.clone()];
    for tables in each {
        for hour in [1, 3, 17] {
            let mut damaged = bytes.clone();
            // From behind, so that what is inserted moves nothing that is still to be found.
            for &table in tables.iter().rev() {
                split_stts(&mut damaged, table, hour);
            }
            stays_bounded(&clips, &format!("mp4 {tables:?} {hour}"), &damaged);
        }
    }
}

/// Lets one sample in the middle of the first run of a table last for hours. `moov` stands behind the samples, so that no
/// offset changes.
fn split_stts(bytes: &mut Vec<u8>, name_at: usize, hours: u32) {
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let entry = name_at + 12;
    let (count, delta) = (word(entry), word(entry + 4));
    let half = count / 2;
    let long = hours * 3600 * 12_800;
    let runs = [half, delta, 1, long, count - half - 1, delta];
    let runs: Vec<u8> = runs.iter().flat_map(|word| word.to_be_bytes()).collect();
    let entries = word(name_at + 8) + 2;
    bytes[name_at + 8..name_at + 12].copy_from_slice(&entries.to_be_bytes());
    bytes.splice(entry..entry + 8, runs);
    grow_boxes(bytes, name_at, 16);
}

/// Adds to the size of every box that holds `place`.
fn grow_boxes(bytes: &mut [u8], place: usize, by: u32) {
    let mut range: Range<usize> = 0..bytes.len();
    loop {
        let mut at = range.start;
        let (start, end) = loop {
            let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            if place < at + size {
                break (at, at + size);
            }
            at += size;
        };
        let size = u32::try_from(end - start).unwrap() + by;
        bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
        if start + 4 == place {
            return;
        }
        range = start + 8..end;
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    let ends = bytes.len() - pattern.len();
    (0..=ends).filter(|&at| bytes[at..].starts_with(pattern)).collect()
}
