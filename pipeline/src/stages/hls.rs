//! HLS playlists as text: version 7, fMP4, one attempt's segments under relative URIs. Pure: what is published when,
//! and over what, is decided in `publish`.
//! Every playlist names the attempt that wrote it in a comment, which players skip and the next attempt reads.

use crate::media::protocol::RenditionKind;
use crate::storage::StorageKey;
use crate::video::VideoId;

/// Seconds. Segments are cut so that none rounds to more, because a growing playlist must not change it.
pub(super) const TARGET_DURATION_S: u32 = 4;

pub(super) const AUDIO: &str = "audio";
pub(super) const SUBTITLES: &str = "subtitles";

const ATTEMPT_TAG: &str = "#CLIPSTREAM-ATTEMPT:";
const LANGUAGE_TAG: &str = "#CLIPSTREAM-LANGUAGE:";
const END_TAG: &str = "#EXT-X-ENDLIST";
const SEGMENT_TAG: &str = "#EXTINF:";
const STREAM_TAG: &str = "#EXT-X-STREAM-INF:";
const SUBTITLES_TAG: &str = "#EXT-X-MEDIA:TYPE=SUBTITLES,";
const SUBTITLES_GROUP: &str = ",SUBTITLES=\"subtitles\"";

/// A published segment, as the playlists and the sums need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u32,
    pub start_us: i64,
    pub duration_us: i64,
    pub size_bytes: u64,
}

/// One rung or the sound, and what of it is published.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    /// 480p, 720p, 1080p or audio.
    pub name: String,
    pub codecs: String,
    pub kind: RenditionKind,
    /// What the encoder may not exceed: the rate to advertise while it is not measured.
    pub planned_bits_per_second: u64,
    pub segments: Vec<Segment>,
}

impl Track {
    pub(super) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    pub(super) fn average_bits_per_second(&self) -> u64 {
        bits_per_second(&self.segments)
    }

    /// The peak of RFC 8216bis: the highest rate of any run of segments that is half to one and a half times as long
    /// as the target duration. So a last segment of one frame counts with its neighbour, not as a burst of its own.
    pub(super) fn peak_bits_per_second(&self) -> u64 {
        let target_us = i64::from(TARGET_DURATION_S) * 1_000_000;
        let counts = |run: &[Segment]| {
            let duration_us: i64 = run.iter().map(|segment| segment.duration_us).sum();
            (target_us / 2..=target_us * 3 / 2).contains(&duration_us)
        };
        let runs = (0..self.segments.len()).flat_map(|first| {
            (first..self.segments.len()).map(move |last| &self.segments[first..=last]).take_while(
                move |run| {
                    let before: i64 = run[..run.len() - 1].iter().map(|s| s.duration_us).sum();
                    before < target_us * 3 / 2
                },
            )
        });
        runs.filter(|run| counts(run))
            .map(bits_per_second)
            .max()
            .unwrap_or_else(|| self.average_bits_per_second())
    }
}

fn bits_per_second(segments: &[Segment]) -> u64 {
    let bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    let duration_us: i64 = segments.iter().map(|segment| segment.duration_us).sum();
    (bytes * 8_000_000) / u64::try_from(duration_us).unwrap_or(0).max(1)
}

/// The playlist of one rendition. Only grows, until `ended`.
pub(super) fn media_playlist(video: VideoId, attempt: i32, track: &Track, ended: bool) -> String {
    let rendition = || track.name.clone();
    let init = StorageKey::InitSegment { video, attempt, rendition: rendition() };
    let mut text = head(attempt);
    line(&mut text, &format!("#EXT-X-TARGETDURATION:{TARGET_DURATION_S}"));
    line(&mut text, "#EXT-X-PLAYLIST-TYPE:EVENT");
    line(&mut text, "#EXT-X-INDEPENDENT-SEGMENTS");
    line(&mut text, &format!("#EXT-X-MAP:URI=\"{}\"", relative(video, &init)));
    for segment in &track.segments {
        let number = segment.number;
        let key = StorageKey::Segment { video, attempt, rendition: rendition(), number };
        line(&mut text, &format!("{SEGMENT_TAG}{},", seconds(segment.duration_us)));
        line(&mut text, &relative(video, &key));
    }
    if ended {
        line(&mut text, END_TAG);
    }
    text
}

/// Which rates the master advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rates {
    /// While it grows: what the encoder may not exceed.
    Planned,
    /// At the end.
    Measured,
}

/// The master without subtitles; [`with_subtitles`] adds those. The lowest rung comes first: players start with it.
pub(super) fn master(attempt: i32, tracks: &[Track], rates: Rates) -> String {
    let mut text = head(attempt);
    line(&mut text, "#EXT-X-INDEPENDENT-SEGMENTS");
    let audio = tracks.iter().find(|track| matches!(track.kind, RenditionKind::Audio { .. }));
    let mut rungs: Vec<(&Track, u32, u32, f64)> = tracks
        .iter()
        .filter_map(|track| match track.kind {
            RenditionKind::Video { width, height, frame_rate } => {
                Some((track, width, height, frame_rate))
            }
            RenditionKind::Audio { .. } => None,
        })
        .collect();
    rungs.sort_by_key(|(_, width, height, _)| width * height);

    if let (Some(audio), false) = (audio, rungs.is_empty()) {
        let RenditionKind::Audio { channels, .. } = audio.kind else { return text };
        line(
            &mut text,
            &format!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO}\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{}.m3u8\"",
                audio.name
            ),
        );
    }
    for (track, width, height, frame_rate) in &rungs {
        let rates = bandwidth(&[Some(*track), audio], rates);
        let codecs = [Some(*track), audio].into_iter().flatten().map(|t| t.codecs.as_str());
        let codecs = codecs.collect::<Vec<_>>().join(",");
        let sound = if audio.is_some() { format!(",AUDIO=\"{AUDIO}\"") } else { String::new() };
        let stream = format!(
            "{rates},RESOLUTION={width}x{height},CODECS=\"{codecs}\",FRAME-RATE={frame_rate:.3}{sound}"
        );
        line(&mut text, &stream);
        line(&mut text, &format!("{}.m3u8", track.name));
    }
    if let (Some(audio), true) = (audio, rungs.is_empty()) {
        let stream = bandwidth(&[Some(audio)], rates);
        line(&mut text, &format!("{stream},CODECS=\"{}\"", audio.codecs));
        line(&mut text, &format!("{}.m3u8", audio.name));
    }
    text
}

/// The rates of a line: the sum over the renditions that play together, as RFC 8216bis defines them.
fn bandwidth(together: &[Option<&Track>], rates: Rates) -> String {
    let sum = |rate: fn(&Track) -> u64| together.iter().flatten().map(|t| rate(t)).sum::<u64>();
    match rates {
        Rates::Planned => format!("{STREAM_TAG}BANDWIDTH={}", sum(|t| t.planned_bits_per_second)),
        Rates::Measured => format!(
            "{STREAM_TAG}BANDWIDTH={},AVERAGE-BANDWIDTH={}",
            sum(Track::peak_bits_per_second).max(1),
            sum(Track::average_bits_per_second).max(1)
        ),
    }
}

/// The playlist of the subtitles: one `WebVTT` file for the whole video, up to the end of its last cue.
pub(super) fn subtitles_playlist(
    video: VideoId,
    attempt: i32,
    duration_us: i64,
    language: Option<&str>,
) -> String {
    let duration_us = duration_us.max(1_000_000);
    let mut text = head(attempt);
    if let Some(language) = language.filter(|word| is_language(word)) {
        line(&mut text, &format!("{LANGUAGE_TAG}{language}"));
    }
    line(&mut text, &format!("#EXT-X-TARGETDURATION:{}", (duration_us + 999_999) / 1_000_000));
    line(&mut text, "#EXT-X-PLAYLIST-TYPE:VOD");
    line(&mut text, &format!("{SEGMENT_TAG}{},", seconds(duration_us)));
    line(&mut text, &relative(video, &StorageKey::SubtitleSegment { video, attempt }));
    line(&mut text, END_TAG);
    text
}

/// A master with the subtitles' line, and every variant in their group. Changes nothing else; doing it twice is doing
/// it once.
pub(super) fn with_subtitles(master: &str, language: Option<&str>) -> String {
    let language = language.filter(|word| is_language(word));
    let language = language.map_or(String::new(), |word| format!(",LANGUAGE=\"{word}\""));
    let media = format!(
        "{SUBTITLES_TAG}GROUP-ID=\"{SUBTITLES}\",NAME=\"Subtitles\",DEFAULT=NO,AUTOSELECT=YES{language},URI=\"{SUBTITLES}.m3u8\""
    );

    let mut text = String::with_capacity(master.len() + media.len() + 128);
    let mut named = false;
    for old in master.lines().filter(|line| !line.starts_with(SUBTITLES_TAG)) {
        let stream = old.starts_with(STREAM_TAG);
        if stream && !named {
            line(&mut text, &media);
            named = true;
        }
        text.push_str(old);
        line(
            &mut text,
            if stream && !old.contains(SUBTITLES_GROUP) { SUBTITLES_GROUP } else { "" },
        );
    }
    text
}

/// What a published playlist says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// 0 if it names none: then it is older than any attempt.
    pub attempt: i32,
    pub duration_us: i64,
    pub ended: bool,
}

impl Reach {
    pub(super) fn of(playlist: &str) -> Self {
        let mut reach = Self { attempt: 0, duration_us: 0, ended: false };
        for line in playlist.lines() {
            if let Some(number) = line.strip_prefix(ATTEMPT_TAG) {
                reach.attempt = number.parse().unwrap_or(0);
            } else if let Some(duration) = line.strip_prefix(SEGMENT_TAG) {
                reach.duration_us += microseconds(duration.trim_end_matches(','));
            } else if line == END_TAG {
                reach.ended = true;
            }
        }
        reach
    }

    /// Whether a viewer of that playlist loses nothing when this one takes its place.
    pub(super) fn is_level_with(&self, published: &Reach) -> bool {
        self.ended || (!published.ended && self.duration_us >= published.duration_us)
    }
}

/// The language that a subtitles playlist names.
pub(super) fn language_of(subtitles_playlist: &str) -> Option<&str> {
    subtitles_playlist
        .lines()
        .find_map(|line| line.strip_prefix(LANGUAGE_TAG))
        .filter(|word| is_language(word))
}

/// A language tag comes from a speech engine, so it is only believed when it looks like one.
fn is_language(word: &str) -> bool {
    (2..=35).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn head(attempt: i32) -> String {
    format!("#EXTM3U\n{ATTEMPT_TAG}{attempt}\n#EXT-X-VERSION:7\n")
}

/// A key as the playlists beside the master name it.
fn relative(video: VideoId, key: &StorageKey) -> String {
    let master = StorageKey::MasterPlaylist { video }.to_string();
    let folder = &master[..=master.rfind('/').unwrap_or(0)];
    let key = key.to_string();
    key.strip_prefix(folder).unwrap_or(&key).to_owned()
}

fn seconds(duration_us: i64) -> String {
    format!("{}.{:06}", duration_us / 1_000_000, duration_us % 1_000_000)
}

/// Of text that [`seconds`] made; anything else is 0.
fn microseconds(seconds: &str) -> i64 {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let fraction = format!("{fraction:0<6.6}");
    let part = |digits: &str| digits.parse::<i64>().unwrap_or(0);
    part(whole).saturating_mul(1_000_000).saturating_add(part(&fraction))
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

#[cfg(test)]
mod tests {
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
                let segment = Segment {
                    number,
                    start_us,
                    duration_us: *duration_us,
                    size_bytes: *size_bytes,
                };
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
}
