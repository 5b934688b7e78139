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
mod tests;
