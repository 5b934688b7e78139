//! Keys of the bucket as a type: path, content type and cache headers are functions of what the object is,
//! so no prefix is written twice. A user's file name never becomes part of a key.

use std::fmt;

use uuid::Uuid;

use crate::event::{DOCTOR_PREFIX, SOURCE_PREFIX};
use crate::video::VideoId;

/// Everything under this prefix is a source, also under names that are not ours.
pub const RAW_UPLOADS: &str = SOURCE_PREFIX;

/// An object of our own making.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StorageKey {
    /// The source as we name it; `extension` is one that [`source_extension`] returned.
    Source { video: VideoId, extension: &'static str },
    /// `processed-videos/{id}/master.m3u8`
    MasterPlaylist { video: VideoId },
    /// `processed-videos/{id}/{rendition}.m3u8`: 480p, 720p, 1080p, audio or subtitles.
    MediaPlaylist { video: VideoId, rendition: String },
    /// `processed-videos/{id}/segments/{attempt}/{rendition}/init.mp4`, immutable.
    InitSegment { video: VideoId, attempt: i32, rendition: String },
    /// `processed-videos/{id}/segments/{attempt}/{rendition}/{number}.m4s`, immutable.
    Segment { video: VideoId, attempt: i32, rendition: String, number: u32 },
    /// `processed-videos/{id}/segments/{attempt}/subtitles/subtitles.vtt`: the copy of the transcript that players may read.
    SubtitleSegment { video: VideoId, attempt: i32 },
    /// `thumbnails/{id}.jpg`
    Poster { video: VideoId },
    /// `thumbnails/{id}_processing.jpg`, there while the transcode runs.
    ProcessingPoster { video: VideoId },
    /// `thumbnails/{id}_duplicate.jpg`
    DuplicatePoster { video: VideoId },
    /// `transcripts/{id}.json`
    Transcript { video: VideoId },
    /// `transcripts/{id}.vtt`
    Subtitles { video: VideoId },
    /// `embeddings/{id}.json`
    Embeddings { video: VideoId },
    /// `raw-uploads/.clipstream-doctor-{id}`: what `clipstream doctor` puts to see its own event come back. Never a video.
    DoctorProbe { id: Uuid },
}

impl StorageKey {
    /// What `Content-Type` the object is stored and served with.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            StorageKey::Source { .. } | StorageKey::DoctorProbe { .. } => {
                "application/octet-stream"
            }
            StorageKey::MasterPlaylist { .. } | StorageKey::MediaPlaylist { .. } => {
                "application/vnd.apple.mpegurl"
            }
            StorageKey::InitSegment { .. } => "video/mp4",
            StorageKey::Segment { .. } => "video/iso.segment",
            StorageKey::Poster { .. }
            | StorageKey::ProcessingPoster { .. }
            | StorageKey::DuplicatePoster { .. } => "image/jpeg",
            StorageKey::Transcript { .. } | StorageKey::Embeddings { .. } => "application/json",
            StorageKey::SubtitleSegment { .. } | StorageKey::Subtitles { .. } => {
                "text/vtt; charset=utf-8"
            }
        }
    }

    /// What `Cache-Control` it is stored and served with. Only keys that name an attempt never change.
    #[must_use]
    pub const fn cache_control(&self) -> &'static str {
        match self {
            StorageKey::InitSegment { .. }
            | StorageKey::Segment { .. }
            | StorageKey::SubtitleSegment { .. } => "public, max-age=31536000, immutable",
            StorageKey::MasterPlaylist { .. }
            | StorageKey::MediaPlaylist { .. }
            | StorageKey::ProcessingPoster { .. } => "no-cache",
            StorageKey::Poster { .. } | StorageKey::DuplicatePoster { .. } => "public, max-age=300",
            StorageKey::Source { .. }
            | StorageKey::DoctorProbe { .. }
            | StorageKey::Transcript { .. }
            | StorageKey::Subtitles { .. }
            | StorageKey::Embeddings { .. } => "private, no-cache",
        }
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageKey::Source { video, extension } => {
                write!(f, "{RAW_UPLOADS}{video}.{extension}")
            }
            StorageKey::MasterPlaylist { video } => {
                write!(f, "processed-videos/{video}/master.m3u8")
            }
            StorageKey::MediaPlaylist { video, rendition } => {
                write!(f, "processed-videos/{video}/{rendition}.m3u8")
            }
            StorageKey::InitSegment { video, attempt, rendition } => {
                write!(f, "processed-videos/{video}/segments/{attempt}/{rendition}/init.mp4")
            }
            StorageKey::Segment { video, attempt, rendition, number } => {
                write!(f, "processed-videos/{video}/segments/{attempt}/{rendition}/{number:05}.m4s")
            }
            StorageKey::SubtitleSegment { video, attempt } => {
                write!(f, "processed-videos/{video}/segments/{attempt}/subtitles/subtitles.vtt")
            }
            StorageKey::Poster { video } => write!(f, "thumbnails/{video}.jpg"),
            StorageKey::ProcessingPoster { video } => {
                write!(f, "thumbnails/{video}_processing.jpg")
            }
            StorageKey::DuplicatePoster { video } => write!(f, "thumbnails/{video}_duplicate.jpg"),
            StorageKey::Transcript { video } => write!(f, "transcripts/{video}.json"),
            StorageKey::Subtitles { video } => write!(f, "transcripts/{video}.vtt"),
            StorageKey::Embeddings { video } => write!(f, "embeddings/{video}.json"),
            StorageKey::DoctorProbe { id } => write!(f, "{DOCTOR_PREFIX}{id}"),
        }
    }
}

/// The extension of a source key for a user's file name: one of a known few, else `bin`.
/// It is for people who browse the bucket; nothing decides by it.
#[must_use]
pub fn source_extension(filename: &str) -> &'static str {
    const KNOWN: [&str; 14] = [
        "mp4", "mov", "m4v", "mkv", "webm", "avi", "flv", "ts", "mpg", "mp3", "m4a", "wav", "flac",
        "ogg",
    ];
    let extension = filename.rsplit_once('.').map_or("", |(_, extension)| extension);
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(extension)).unwrap_or("bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, whose keys must differ.
    fn one_of_each() -> Vec<StorageKey> {
        let (video, attempt) = (VideoId::new(), 3);
        let rendition = "480p".to_owned();
        vec![
            StorageKey::Source { video, extension: "mp4" },
            StorageKey::MasterPlaylist { video },
            StorageKey::MediaPlaylist { video, rendition: rendition.clone() },
            StorageKey::InitSegment { video, attempt, rendition: rendition.clone() },
            StorageKey::Segment { video, attempt, rendition, number: 1 },
            StorageKey::SubtitleSegment { video, attempt },
            StorageKey::Poster { video },
            StorageKey::ProcessingPoster { video },
            StorageKey::DuplicatePoster { video },
            StorageKey::Transcript { video },
            StorageKey::Subtitles { video },
            StorageKey::Embeddings { video },
            StorageKey::DoctorProbe { id: video.0 },
        ]
    }

    #[test]
    fn no_two_kinds_of_object_share_a_key() {
        let keys: Vec<String> = one_of_each().iter().map(ToString::to_string).collect();
        let different: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn our_keys_need_no_escaping_anywhere() {
        for key in one_of_each() {
            let key = key.to_string();
            let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
            assert!(key.chars().all(plain) && !key.starts_with('/'), "{key}");
        }
    }

    #[test]
    fn only_what_names_an_attempt_is_cached_for_ever() {
        for key in one_of_each() {
            let immutable = key.cache_control().contains("immutable");
            assert_eq!(immutable, key.to_string().contains("/segments/3/"), "{key}");
        }
    }

    #[test]
    fn a_file_name_lends_its_extension_and_nothing_else() {
        assert_eq!(source_extension("holiday.MP4"), "mp4");
        assert_eq!(source_extension("../../etc/passwd"), "bin");
        assert_eq!(source_extension("x.exe"), "bin");
        assert_eq!(source_extension(""), "bin");
    }
}
