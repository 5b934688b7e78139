//! Playlists as a parser of others reads them.

use m3u8_rs::{
    AlternativeMediaType, MasterPlaylist, MediaPlaylist, MediaPlaylistType,
    parse_master_playlist_res, parse_media_playlist_res,
};

use super::*;

fn segments(shape: &[(i64, u64)]) -> Vec<Segment> {
    let mut start_us = 0;
    (1..)
        .zip(shape)
        .map(|(number, (duration_us, size_bytes))| {
            let segment =
                Segment { number, start_us, duration_us: *duration_us, size_bytes: *size_bytes };
            start_us += duration_us;
            segment
        })
        .collect()
}

fn rung(name: &str, width: u32, height: u32, shape: &[(i64, u64)]) -> Track {
    Track {
        name: name.into(),
        codecs: "avc1.64001f".into(),
        kind: RenditionKind::Video { width, height, frame_rate: 30_000.0 / 1_001.0 },
        planned_bits_per_second: 1_540_000,
        segments: segments(shape),
    }
}

fn sound(shape: &[(i64, u64)]) -> Track {
    Track {
        name: AUDIO.into(),
        codecs: "mp4a.40.2".into(),
        kind: RenditionKind::Audio { channels: 2, sample_rate: 48_000 },
        planned_bits_per_second: 140_000,
        segments: segments(shape),
    }
}

fn parsed_master(text: &str) -> MasterPlaylist {
    parse_master_playlist_res(text.as_bytes()).expect("a master that a parser of others reads")
}

fn parsed_media(text: &str) -> MediaPlaylist {
    parse_media_playlist_res(text.as_bytes()).expect("a playlist that a parser of others reads")
}

#[test]
fn a_growing_playlist_names_its_segments_beside_the_master() {
    let track = rung("480p", 854, 480, &[(2_000_000, 10), (2_002_000, 10), (3_999_999, 10)]);
    let text = media_playlist(VideoId::new(), 7, &track, false);
    let playlist = parsed_media(&text);
    assert_eq!(playlist.version, Some(7));
    assert_eq!(playlist.target_duration, 4);
    assert_eq!(playlist.playlist_type, Some(MediaPlaylistType::Event));
    assert!(playlist.independent_segments);
    assert!(!playlist.end_list);
    let uris: Vec<_> = playlist.segments.iter().map(|segment| segment.uri.as_str()).collect();
    let uri = |number| format!("segments/7/480p/0000{number}.m4s");
    assert_eq!(uris, [uri(1), uri(2), uri(3)]);
    let map = playlist.segments[0].map.as_ref().expect("an init segment");
    assert_eq!(map.uri, "segments/7/480p/init.mp4");
    assert!((playlist.segments[1].duration - 2.002).abs() < 1e-6);
}

#[test]
fn the_end_of_a_playlist_is_marked_and_only_adds_a_line() {
    let track = rung("480p", 854, 480, &[(2_000_000, 10)]);
    let video = VideoId::new();
    let growing = media_playlist(video, 1, &track, false);
    let ended = media_playlist(video, 1, &track, true);
    assert!(parsed_media(&ended).end_list);
    assert_eq!(ended.strip_prefix(&growing), Some("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_master_names_the_rungs_from_below_with_their_sound() {
    let shape = [(2_000_000, 250_000), (4_000_000, 1_000_000)];
    let tracks = [
        rung("1080p", 1920, 1080, &shape),
        rung("480p", 854, 480, &shape),
        sound(&[(2_000_000, 32_000), (4_000_000, 64_000)]),
    ];
    let master = parsed_master(&master(3, &tracks, Rates::Measured));
    assert!(master.independent_segments);
    let uris: Vec<_> = master.variants.iter().map(|variant| variant.uri.as_str()).collect();
    assert_eq!(uris, ["480p.m3u8", "1080p.m3u8"]);
    let lowest = &master.variants[0];
    assert_eq!(lowest.codecs.as_deref(), Some("avc1.64001f,mp4a.40.2"));
    assert_eq!(lowest.audio.as_deref(), Some(AUDIO));
    assert_eq!(lowest.subtitles, None);
    assert_eq!(lowest.resolution.map(|r| (r.width, r.height)), Some((854, 480)));
    assert!((lowest.frame_rate.expect("a frame rate") - 29.97).abs() < 1e-9);
    assert_eq!(lowest.bandwidth, 2_000_000 + 128_000, "the peak of both");
    assert_eq!(lowest.average_bandwidth, Some(1_666_666 + 128_000));
    let [sound] = &master.alternatives[..] else { panic!("one alternative") };
    assert_eq!(sound.media_type, AlternativeMediaType::Audio);
    assert_eq!(sound.group_id, AUDIO);
    assert_eq!(sound.uri.as_deref(), Some("audio.m3u8"));
    assert!(sound.default);
}

#[test]
fn a_growing_master_advertises_what_the_encoder_may_not_exceed() {
    let tracks = [rung("480p", 854, 480, &[(2_000_000, 1)]), sound(&[(2_000_000, 1)])];
    let master = parsed_master(&master(1, &tracks, Rates::Planned));
    assert_eq!(master.variants[0].bandwidth, 1_680_000);
    assert_eq!(master.variants[0].average_bandwidth, None);
}

#[test]
fn a_master_of_sound_alone_and_of_pictures_alone() {
    let text = master(1, &[sound(&[(2_000_000, 32_000)])], Rates::Measured);
    let playlist = parsed_master(&text);
    assert!(playlist.alternatives.is_empty());
    assert_eq!(playlist.variants[0].uri, "audio.m3u8");
    assert_eq!(playlist.variants[0].codecs.as_deref(), Some("mp4a.40.2"));
    assert_eq!(playlist.variants[0].audio, None);

    let silent = [rung("480p", 320, 240, &[(2_000_000, 1_000)])];
    let playlist = parsed_master(&master(1, &silent, Rates::Measured));
    assert!(playlist.alternatives.is_empty());
    assert_eq!(playlist.variants[0].codecs.as_deref(), Some("avc1.64001f"));
    assert_eq!(playlist.variants[0].audio, None);
}

#[test]
fn the_peak_sees_a_burst_and_no_ghost_in_a_short_tail() {
    let calm = (4_000_000, 100_000);
    let burst = rung("480p", 854, 480, &[calm, (4_000_000, 2_000_000), calm]);
    assert_eq!(burst.peak_bits_per_second(), 4_000_000);
    let tail = rung("480p", 854, 480, &[calm, calm, (33_333, 30_000)]);
    assert_eq!(tail.peak_bits_per_second(), 130_000 * 8_000_000 / 4_033_333);
    let short = rung("480p", 854, 480, &[(40_000, 5_000)]);
    assert_eq!(short.peak_bits_per_second(), 1_000_000);
}

#[test]
fn subtitles_are_added_once_and_keep_everything_else() {
    let tracks = [
        rung("480p", 854, 480, &[(2_000_000, 1_000)]),
        rung("720p", 1280, 720, &[(2_000_000, 1_000)]),
        sound(&[(2_000_000, 32_000)]),
    ];
    let plain = master(5, &tracks, Rates::Measured);
    let text = with_subtitles(&plain, Some("en"));
    assert_eq!(with_subtitles(&text, Some("en")), text);
    assert_eq!(Reach::of(&text).attempt, 5);
    let playlist = parsed_master(&text);
    assert!(playlist.variants.iter().all(|v| v.subtitles.as_deref() == Some(SUBTITLES)));
    let subtitles: Vec<_> = playlist
        .alternatives
        .iter()
        .filter(|alternative| alternative.media_type == AlternativeMediaType::Subtitles)
        .collect();
    let [subtitles] = &subtitles[..] else { panic!("one subtitles line") };
    assert_eq!(subtitles.uri.as_deref(), Some("subtitles.m3u8"));
    assert_eq!(subtitles.language.as_deref(), Some("en"));
    let before: Vec<_> = plain.lines().filter(|l| !l.starts_with(STREAM_TAG)).collect();
    assert!(before.iter().all(|line| text.lines().any(|other| other == *line)));
}

#[test]
fn a_language_that_is_none_never_reaches_a_playlist() {
    let hostile = Some("en\"\n#EXT-X-KEY:URI=\"http://evil");
    let text = with_subtitles(&master(1, &[sound(&[(2_000_000, 1)])], Rates::Planned), hostile);
    assert!(!text.contains("evil"));
    let subtitles = subtitles_playlist(VideoId::new(), 1, 5_000_000, hostile);
    assert!(!subtitles.contains("evil"));
    assert_eq!(language_of(&subtitles), None);
}

#[test]
fn a_subtitles_playlist_has_one_file_and_its_language() {
    let text = subtitles_playlist(VideoId::new(), 2, 61_400_000, Some("de"));
    assert_eq!(language_of(&text), Some("de"));
    let playlist = parsed_media(&text);
    assert_eq!(playlist.target_duration, 62);
    assert!(playlist.end_list);
    let [segment] = &playlist.segments[..] else { panic!("one segment") };
    assert_eq!(segment.uri, "segments/2/subtitles/subtitles.vtt");
}

#[test]
fn a_playlist_says_how_far_it_reaches() {
    let track = rung("480p", 854, 480, &[(2_000_000, 1), (1_966_667, 1)]);
    let reach = Reach::of(&media_playlist(VideoId::new(), 12, &track, true));
    assert_eq!(reach, Reach { attempt: 12, duration_us: 3_966_667, ended: true });
    assert_eq!(Reach::of("no playlist").attempt, 0);
}
