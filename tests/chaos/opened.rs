//! Opens everything that was published of a video: playlists, segments, pictures, texts. What a player would trip over,
//! and what another attempt than the row's has left in it, is a breach.

use std::path::{Path, PathBuf};

use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};
use pipeline::storage::{Storage, StorageKey};
use pipeline::video::VideoId;
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use tokio::fs;
use tokio::process::Command;

use crate::clip::Clip;

/// One frame of the slowest clip, and the priming of AAC.
const TOLERANCE_S: f64 = 0.08;
const MAX_BYTES: u64 = 64 << 20;
/// Of the document of the embeddings.
const DIMENSIONS: usize = 256;

/// A ready video and the attempts that its rows name.
#[derive(Debug, FromRow)]
pub(crate) struct Published {
    pub(crate) video: uuid::Uuid,
    pub(crate) transcode: i32,
    pub(crate) speech: i32,
}

/// One look at one video: files are kept beside each other as in the bucket, so that players find them.
pub(crate) struct Look<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) pool: &'a PgPool,
    pub(crate) published: &'a Published,
    pub(crate) clip: &'a Clip,
    directory: PathBuf,
    breaches: Vec<String>,
}

/// What ffprobe counted while it decoded.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    pictures: Option<u64>,
    sound: bool,
    seconds: f64,
}

impl<'a> Look<'a> {
    pub(crate) fn new(
        storage: &'a Storage,
        pool: &'a PgPool,
        published: &'a Published,
        clip: &'a Clip,
        root: &Path,
    ) -> Self {
        let directory = root.join(published.video.to_string());
        Self { storage, pool, published, clip, directory, breaches: Vec::new() }
    }

    /// What is wrong with it.
    pub(crate) async fn breaches(mut self) -> Vec<String> {
        if let Err(what) = self.open().await {
            self.breaches.push(what);
        }
        drop(fs::remove_dir_all(&self.directory).await);
        let (video, clip) = (self.published.video, self.clip);
        self.breaches.into_iter().map(|what| format!("{video} ({clip:?}): {what}")).collect()
    }

    async fn open(&mut self) -> Result<(), String> {
        let video = VideoId(self.published.video);
        let master = self.fetch(&StorageKey::MasterPlaylist { video }.to_string()).await?;
        let Ok((_, Playlist::MasterPlaylist(master))) = m3u8_rs::parse_playlist(&master) else {
            return Err("the master playlist does not parse".to_owned());
        };
        self.check_rungs(&master);
        let pictures = master.variants.iter().map(|variant| variant.uri.clone());
        let others = master.alternatives.iter().filter_map(|media| media.uri.clone());
        for uri in pictures.chain(others) {
            self.open_rendition(&uri).await?;
        }
        for key in [
            StorageKey::Poster { video },
            StorageKey::Transcript { video },
            StorageKey::Embeddings { video },
        ] {
            self.open_document(&key).await?;
        }
        Ok(())
    }

    fn check_rungs(&mut self, master: &MasterPlaylist) {
        let mut rungs: Vec<&str> =
            master.variants.iter().map(|variant| variant.uri.trim_end_matches(".m3u8")).collect();
        rungs.sort_unstable();
        let sound = master
            .alternatives
            .iter()
            .any(|media| media.media_type == m3u8_rs::AlternativeMediaType::Audio);
        if rungs != self.clip.rungs || sound != self.clip.sound {
            self.breaches.push(format!("the master names {rungs:?}, sound: {sound}"));
        }
    }

    /// A playlist, its segments, and what a player makes of them.
    async fn open_rendition(&mut self, uri: &str) -> Result<(), String> {
        let folder = format!("processed-videos/{}", self.published.video);
        let text = self.fetch(&format!("{folder}/{uri}")).await?;
        let Ok((_, Playlist::MediaPlaylist(playlist))) = m3u8_rs::parse_playlist(&text) else {
            return Err(format!("{uri} does not parse"));
        };
        if !playlist.end_list || playlist.segments.is_empty() {
            self.breaches.push(format!(
                "{uri} has {} segments and end: {}",
                playlist.segments.len(),
                playlist.end_list
            ));
        }
        let subtitles = uri == "subtitles.m3u8";
        let attempt = if subtitles { self.published.speech } else { self.published.transcode };
        for named in named_by(&playlist) {
            if !named.starts_with(&format!("segments/{attempt}/")) {
                self.breaches
                    .push(format!("{uri} names {named}, which is not of attempt {attempt}"));
            }
            let body = self.fetch(&format!("{folder}/{named}")).await?;
            if subtitles && !body.starts_with(b"WEBVTT") {
                self.breaches.push(format!("{named} is no WebVTT"));
            }
        }
        if !subtitles {
            self.play(uri, &playlist).await?;
        }
        Ok(())
    }

    async fn play(&mut self, uri: &str, playlist: &MediaPlaylist) -> Result<(), String> {
        let listed: f64 = playlist.segments.iter().map(|segment| f64::from(segment.duration)).sum();
        let decoded = self.decode(&self.directory.join(uri)).await?;
        let seconds = f64::from(self.clip.seconds);
        let sound = uri == "audio.m3u8";
        let pictures = (!sound).then_some(self.clip.frames);
        if decoded.pictures != pictures || decoded.sound != sound {
            self.breaches.push(format!("{uri} holds {decoded:?}"));
        }
        for lasts in [listed, decoded.seconds] {
            if (lasts - seconds).abs() > TOLERANCE_S {
                self.breaches.push(format!("{uri} lasts {lasts} s"));
            }
        }
        Ok(())
    }

    /// Decodes all of it; any complaint is an error.
    async fn decode(&self, file: &Path) -> Result<Decoded, String> {
        let entries = "stream=codec_type,nb_read_frames:format=duration";
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-count_frames", "-show_entries", entries, "-of", "json"])
            .arg(file)
            .output()
            .await
            .map_err(|error| format!("ffprobe: {error}"))?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !complaints.is_empty() {
            return Err(format!("{} does not decode: {complaints}", file.display()));
        }
        let probed: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let mut decoded = Decoded::default();
        for stream in probed["streams"].as_array().into_iter().flatten() {
            let frames = stream["nb_read_frames"].as_str().and_then(|text| text.parse().ok());
            match stream["codec_type"].as_str() {
                Some("video") => decoded.pictures = frames,
                Some("audio") => decoded.sound = frames > Some(0),
                _ => {}
            }
        }
        let seconds = probed["format"]["duration"].as_str().and_then(|text| text.parse().ok());
        decoded.seconds = seconds.unwrap_or_default();
        Ok(decoded)
    }

    async fn open_document(&mut self, key: &StorageKey) -> Result<(), String> {
        let name = key.to_string();
        let body = self.fetch(&name).await?;
        let right = match key {
            StorageKey::Poster { .. } => {
                self.decode(&self.directory.join(&name)).await?.pictures == Some(1)
            }
            StorageKey::Embeddings { .. } => {
                parsed(&body)?["video"].as_array().map(Vec::len) == Some(DIMENSIONS)
            }
            _ => parsed(&body)?["schema"] == "clipstream.transcript/1",
        };
        if !right {
            self.breaches.push(format!("{name} is not what it should be"));
        }
        Ok(())
    }

    /// An object, of the size that its row says, and put where a player looks for it.
    async fn fetch(&mut self, key: &str) -> Result<Vec<u8>, String> {
        let body = self.storage.get(key, MAX_BYTES).await;
        let (body, _) = body.map_err(|error| format!("{key} cannot be read: {error}"))?;
        let recorded: Option<i64> =
            sqlx::query_scalar("select size_bytes from objects where video_id = $1 and key = $2")
                .bind(self.published.video)
                .bind(key)
                .fetch_optional(self.pool)
                .await
                .expect("an answer");
        let size = i64::try_from(body.len()).expect("a size");
        if key.contains("/segments/") && recorded != Some(size) || recorded.is_none() {
            self.breaches.push(format!("{key} has {size} bytes, its row says {recorded:?}"));
        }
        let folder = format!("processed-videos/{}/", self.published.video);
        let file = self.directory.join(key.strip_prefix(&folder).unwrap_or(key));
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).await.expect("a directory");
        }
        fs::write(&file, &body).await.expect("written");
        Ok(body.to_vec())
    }
}

/// Everything that a playlist refers to.
fn named_by(playlist: &MediaPlaylist) -> Vec<String> {
    let maps = playlist.segments.iter().filter_map(|segment| segment.map.as_ref());
    let maps = maps.map(|map| map.uri.clone());
    maps.chain(playlist.segments.iter().map(|segment| segment.uri.clone())).collect()
}

fn parsed(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("a document does not parse: {error}"))
}
