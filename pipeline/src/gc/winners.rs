//! Which segments of a video count: those that a playlist names, and those of the attempts whose results were committed.
//! Either is enough to stay, so that neither a lost playlist nor a rerun that is under way costs a segment. Pure.

use std::collections::HashSet;

use crate::video::VideoId;

/// What counts of one video.
pub(super) struct Winners {
    prefix: String,
    /// `segments/{attempt}/{rendition}` of each segment that a playlist names.
    named: HashSet<String>,
    renditions: Option<i32>,
    transcript: Option<i32>,
}

/// Whether a key names an attempt, and so may be nobody's any more. Sources, documents and playlists do not.
pub(super) fn is_segment(key: &str) -> bool {
    key.starts_with("processed-videos/") && key.split('/').nth(2) == Some("segments")
}

pub(super) fn is_playlist(key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(_, extension)| extension == "m3u8")
}

impl Winners {
    /// With the attempts whose results were committed.
    pub(super) fn new(video: VideoId, renditions: Option<i32>, transcript: Option<i32>) -> Self {
        Self {
            prefix: format!("processed-videos/{video}/"),
            named: HashSet::new(),
            renditions,
            transcript,
        }
    }

    /// Notes what a playlist names: in lines of their own, and in attributes for what a segment begins with.
    pub(super) fn add_playlist(&mut self, text: &str) {
        for (at, _) in text.match_indices("segments/") {
            let uri = text[at..].split(['"', '\n', '\r', ',']).next().unwrap_or_default();
            if let Some((directory, _)) = uri.rsplit_once('/') {
                self.named.insert(directory.to_owned());
            }
        }
    }

    /// Whether a segment counts. One of another video, or of a shape that is not ours, does: it is not ours to judge.
    pub(super) fn name(&self, key: &str) -> bool {
        let Some((directory, _)) =
            key.strip_prefix(&self.prefix).and_then(|path| path.rsplit_once('/'))
        else {
            return true;
        };
        let mut parts = directory.split('/').skip(1);
        let attempt = parts.next().and_then(|attempt| attempt.parse().ok());
        let Some(attempt) = attempt else { return true };
        let winner = match parts.next() {
            Some("subtitles") => self.transcript,
            _ => self.renditions,
        };
        winner == Some(attempt) || self.named.contains(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYLIST: &str = "#EXTM3U\n#EXT-X-MAP:URI=\"segments/2/480p/init.mp4\"\n#EXTINF:4,\nsegments/2/480p/00001.m4s\n";

    fn key(video: VideoId, rest: &str) -> String {
        format!("processed-videos/{video}/{rest}")
    }

    #[test]
    fn what_a_playlist_names_counts_with_all_of_its_directory() {
        let video = VideoId::new();
        let mut winners = Winners::new(video, None, None);
        winners.add_playlist(PLAYLIST);
        for (rest, counts) in [
            ("segments/2/480p/init.mp4", true),
            ("segments/2/480p/00007.m4s", true),
            ("segments/2/720p/00001.m4s", false),
            ("segments/1/480p/00001.m4s", false),
            ("segments/22/480p/00001.m4s", false),
        ] {
            assert_eq!(winners.name(&key(video, rest)), counts, "{rest}");
        }
    }

    #[test]
    fn the_attempts_that_were_committed_count_without_any_playlist() {
        let video = VideoId::new();
        let winners = Winners::new(video, Some(3), Some(1));
        for (rest, counts) in [
            ("segments/3/1080p/00001.m4s", true),
            ("segments/1/1080p/00001.m4s", false),
            ("segments/1/subtitles/subtitles.vtt", true),
            ("segments/3/subtitles/subtitles.vtt", false),
        ] {
            assert_eq!(winners.name(&key(video, rest)), counts, "{rest}");
        }
    }

    #[test]
    fn what_is_not_of_this_video_or_has_another_shape_is_left_alone() {
        let video = VideoId::new();
        let winners = Winners::new(video, Some(3), None);
        for left_alone in [
            key(VideoId::new(), "segments/1/480p/00001.m4s"),
            key(video, "segments/latest/480p/00001.m4s"),
            key(video, "segments/1"),
        ] {
            assert!(winners.name(&left_alone), "{left_alone}");
        }
        assert!(!is_segment(&format!("raw-uploads/{video}/segments/1/480p/00001.m4s")));
        assert!(!is_segment(&key(video, "master.m3u8")));
        assert!(is_segment(&key(video, "segments/1/480p/00001.m4s")));
    }
}
