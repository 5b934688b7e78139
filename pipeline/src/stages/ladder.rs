//! The renditions of one attempt while they grow: segments go up as they close, a playlist after what it names, the
//! master as soon as every rendition can be played.
//! A crash leaves segments under this attempt's keys and playlists that name only what is there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::time::Instant;

use super::hls::{self, Rates, Segment, Track};
use super::publish::{FixedPlaylist, write_master};
use super::{StageContext, StageError};
use crate::media::protocol::RenditionKind;
use crate::storage::{Precondition, StorageKey};

/// The names that a rendition may have: they become part of keys, and the child is not believed.
const RENDITIONS: [&str; 4] = ["480p", "720p", "1080p", hls::AUDIO];
/// Uploads at once. Each holds a segment in memory; the child waits meanwhile.
const UPLOADS: usize = 4;
/// A growing playlist is written at most so often: players ask again after about a target duration.
const PLAYLIST_PERIOD: Duration = Duration::from_secs(2);

/// What this attempt has published so far.
pub(super) struct Ladder<'a> {
    context: &'a StageContext,
    tracks: Vec<Growing>,
    master: FixedPlaylist,
    /// How many tracks the published master names.
    named: usize,
    playable: bool,
    /// In the order in which the child closed them, so that a playlist never has a gap.
    uploads: FuturesOrdered<BoxFuture<'a, Result<Landed, StageError>>>,
}

struct Growing {
    /// With the segments that are up.
    track: Track,
    /// Number of the last segment that the child closed.
    closed: u32,
    playlist: FixedPlaylist,
    /// How many segments the playlist had when it was written last, and when.
    listed: Option<(usize, Instant)>,
}

/// An object that is up.
pub(super) enum Landed {
    Init,
    Segment { track: usize, segment: Segment },
}

impl<'a> Ladder<'a> {
    pub(super) fn new(context: &'a StageContext) -> Self {
        let master = FixedPlaylist::new(StorageKey::MasterPlaylist { video: context.lease.video });
        Self {
            context,
            tracks: Vec::new(),
            master,
            named: 0,
            playable: false,
            uploads: FuturesOrdered::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.uploads.len() < UPLOADS
    }

    /// The next upload that is done, in order; `None` when there is none. Safe to drop.
    pub(super) async fn next_landed(&mut self) -> Option<Result<Landed, StageError>> {
        self.uploads.next().await
    }

    /// A rendition begins.
    pub(super) fn begin(
        &mut self,
        name: String,
        codecs: String,
        kind: RenditionKind,
        planned_bits_per_second: u64,
        init: Bytes,
    ) -> Result<(), StageError> {
        if !RENDITIONS.contains(&name.as_str()) || self.tracks.iter().any(|t| t.track.name == name)
        {
            return Err(nonsense(&format!("a rendition {name:?}")));
        }
        if !codecs.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') {
            return Err(nonsense(&format!("codecs {codecs:?}")));
        }
        let (video, attempt) = (self.context.lease.video, self.context.lease.attempt);
        let key = StorageKey::InitSegment { video, attempt, rendition: name.clone() };
        self.upload(key, init, Landed::Init);
        let playlist = StorageKey::MediaPlaylist { video, rendition: name.clone() };
        self.tracks.push(Growing {
            track: Track { name, codecs, kind, planned_bits_per_second, segments: Vec::new() },
            closed: 0,
            playlist: FixedPlaylist::new(playlist),
            listed: None,
        });
        Ok(())
    }

    /// A segment has closed.
    pub(super) fn push(
        &mut self,
        rendition: &str,
        number: u32,
        start_us: i64,
        duration_us: i64,
        body: Bytes,
    ) -> Result<(), StageError> {
        let found = self.tracks.iter().position(|t| t.track.name == rendition);
        let Some(track) = found.filter(|i| self.tracks[*i].closed + 1 == number) else {
            return Err(nonsense(&format!("segment {number} of {rendition:?} out of turn")));
        };
        if duration_us <= 0 || body.is_empty() {
            return Err(nonsense(&format!("segment {number} of {rendition:?} without content")));
        }
        self.tracks[track].closed = number;
        let segment = Segment { number, start_us, duration_us, size_bytes: body.len() as u64 };
        let (video, attempt) = (self.context.lease.video, self.context.lease.attempt);
        let key = StorageKey::Segment { video, attempt, rendition: rendition.to_owned(), number };
        self.upload(key, body, Landed::Segment { track, segment });
        Ok(())
    }

    /// Takes note of what is up, and publishes what that makes possible.
    pub(super) async fn record(&mut self, landed: Landed) -> Result<(), StageError> {
        if let Landed::Segment { track, segment } = landed {
            self.tracks[track].track.segments.push(segment);
        }
        for growing in &mut self.tracks {
            let due = growing.listed.is_none_or(|(segments, written_at)| {
                segments < growing.track.segments.len() && written_at.elapsed() >= PLAYLIST_PERIOD
            });
            if due && !growing.track.segments.is_empty() {
                growing.publish(self.context, false).await?;
            }
        }
        let all_listed = self.tracks.iter().all(|growing| growing.listed.is_some());
        if all_listed && self.named < self.tracks.len() {
            self.publish_master(Rates::Planned).await?;
        }
        Ok(())
    }

    /// Everything is closed: waits for the uploads, then ends the playlists. What was published, with its measures.
    pub(super) async fn finish(mut self) -> Result<Vec<Track>, StageError> {
        while let Some(landed) = self.next_landed().await {
            self.record(landed?).await?;
        }
        // A stream may be declared and hold nothing.
        self.tracks.retain(|growing| !growing.track.segments.is_empty());
        if self.tracks.is_empty() {
            return Err(nonsense("being done without a segment"));
        }
        for growing in &mut self.tracks {
            growing.publish(self.context, true).await?;
        }
        self.publish_master(Rates::Measured).await?;
        Ok(self.tracks.into_iter().map(|growing| growing.track).collect())
    }

    async fn publish_master(&mut self, rates: Rates) -> Result<(), StageError> {
        let tracks: Vec<Track> = self.tracks.iter().map(|growing| growing.track.clone()).collect();
        let text = hls::master(self.context.lease.attempt, &tracks, rates);
        write_master(self.context, &mut self.master, &text).await?;
        self.named = tracks.len();
        if !self.playable {
            self.context.playable().await?;
            self.playable = true;
        }
        Ok(())
    }

    /// Segment keys belong to this attempt alone, so the PUT needs no precondition and may be repeated.
    fn upload(&mut self, key: StorageKey, body: Bytes, landed: Landed) {
        let context = self.context;
        self.uploads.push_back(Box::pin(async move {
            context.put(&key, body, &Precondition::None).await?;
            Ok(landed)
        }));
    }
}

impl Growing {
    async fn publish(&mut self, context: &StageContext, ended: bool) -> Result<(), StageError> {
        let lease = &context.lease;
        let text = hls::media_playlist(lease.video, lease.attempt, &self.track, ended);
        // An earlier attempt's playlist that reaches further can be played as well as ours.
        self.playlist.write(context, text).await?;
        self.listed = Some((self.track.segments.len(), Instant::now()));
        Ok(())
    }
}

/// The child parses hostile bytes: when it breaks the protocol it may be broken itself, and is counted as such.
fn nonsense(what: &str) -> StageError {
    StageError::Crashed(format!("the media child spoke of {what}"))
}
