//! The few objects at fixed keys, which attempts follow each other on: playlists and thumbnails.
//! Nothing here is written blindly: each PUT names the version that it replaces, so a zombie's PUT fails instead of
//! undoing a newer attempt's. A crash leaves the last published version, which names only objects that are there.

use std::str;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::hls::{self, Reach};
use super::{StageContext, StageError};
use crate::retry::Backoff;
use crate::storage::{Precondition, StorageError, StorageKey};
use crate::video::FailureCause;

/// How often a write is tried against others at the same key. Two writers cannot collide more often by accident.
const TRIES: usize = 8;
/// How long one write outlasts a MinIO that is away. Giving up throws a whole attempt away, for a cut connection too.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(20);
/// More than a playlist of ours for hours of video.
const MAX_PLAYLIST_BYTES: u64 = 4 * 1024 * 1024;
/// More than a transcript's `WebVTT` for hours of speech.
const MAX_VTT_BYTES: u64 = 64 * 1024 * 1024;

/// A playlist at its fixed key, and the version of it that this attempt wrote last.
pub(super) struct FixedPlaylist {
    key: StorageKey,
    held_etag: Option<String>,
}

/// What viewers see after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The text just written.
    Ours,
    /// An earlier attempt's playlist, which reaches further. Ours takes over when it is level.
    Earlier,
}

impl FixedPlaylist {
    pub(super) fn new(key: StorageKey) -> Self {
        Self { key, held_etag: None }
    }

    /// Publishes the text, unless an earlier attempt's playlist reaches further. `LeaseLost` if a later attempt's is there.
    pub(super) async fn write(
        &mut self,
        context: &StageContext,
        text: String,
    ) -> Result<Standing, StageError> {
        let ours = Reach::of(&text);
        let body = Bytes::from(text);
        let mut patience = Patience::new();
        loop {
            let tried = self.try_write(context, &ours, &body).await;
            if let Some(standing) = patience.after(&self.key, tried).await? {
                return Ok(standing);
            }
        }
    }

    /// `None` when somebody else wrote in between. Without an answer the held version is forgotten: whether the PUT
    /// landed is for the next look to say, which finds this attempt's own text or what was there before.
    async fn try_write(
        &mut self,
        context: &StageContext,
        ours: &Reach,
        body: &Bytes,
    ) -> Result<Option<Standing>, StageError> {
        let precondition = match self.held_etag.take() {
            Some(etag) => Precondition::IfMatch(etag),
            None => match read(context, &self.key, MAX_PLAYLIST_BYTES).await? {
                None => Precondition::IfAbsent,
                Some((published, etag)) => match succession(&Reach::of(&published), ours) {
                    Succession::Replace => Precondition::IfMatch(etag),
                    Succession::Wait => return Ok(Some(Standing::Earlier)),
                    Succession::Lost => return Err(StageError::LeaseLost),
                },
            },
        };
        self.held_etag = context.put_if(&self.key, body.clone(), &precondition).await?;
        Ok(self.held_etag.is_some().then_some(Standing::Ours))
    }
}

/// How much longer one write is tried. Every try looks at what is there and PUTs over exactly that, so repeating one
/// whose answer was lost is safe.
struct Patience {
    collisions: usize,
    until: Instant,
    delays: Backoff,
}

impl Patience {
    fn new() -> Self {
        Self { collisions: 0, until: Instant::now() + OUTAGE_PATIENCE, delays: Backoff::new() }
    }

    /// What a try came to; `None` asks for another one. Waits before that if storage is away.
    async fn after<T>(
        &mut self,
        key: &StorageKey,
        tried: Result<Option<T>, StageError>,
    ) -> Result<Option<T>, StageError> {
        match tried {
            Ok(None) => {
                self.collisions += 1;
                if self.collisions == TRIES { Err(contended(key)) } else { Ok(None) }
            }
            Err(StageError::Outage(detail)) if Instant::now() < self.until => {
                tracing::debug!(object.key = %key, detail, "writing it again");
                tokio::time::sleep(self.delays.next().unwrap_or(OUTAGE_PATIENCE)).await;
                Ok(None)
            }
            settled => settled,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Succession {
    Replace,
    Wait,
    Lost,
}

/// A new attempt never shortens a published playlist; an old one never touches a newer one's.
fn succession(published: &Reach, ours: &Reach) -> Succession {
    if published.attempt > ours.attempt {
        Succession::Lost
    } else if published.attempt == ours.attempt || ours.is_level_with(published) {
        // Of our own attempt: a write of ours whose answer was lost, or one that `add_subtitles` patched.
        Succession::Replace
    } else {
        Succession::Wait
    }
}

/// Writes the master, with the subtitles' line if there are subtitles.
///
/// Transcode and speech-to-text both write it, and no order may lose that line. Speech-to-text puts the subtitles
/// playlist before it looks for a master to patch; this looks for the subtitles playlist again after its own write.
/// So whoever comes second sees the other.
pub(super) async fn write_master(
    context: &StageContext,
    master: &mut FixedPlaylist,
    text: &str,
) -> Result<(), StageError> {
    let subtitles_key = subtitles_key(context);
    let mut subtitles = read(context, &subtitles_key, MAX_PLAYLIST_BYTES).await?;
    for _ in 0..TRIES {
        let text = match &subtitles {
            Some((playlist, _)) => hls::with_subtitles(text, hls::language_of(playlist)),
            None => text.to_owned(),
        };
        master.write(context, text).await?;
        let since = read(context, &subtitles_key, MAX_PLAYLIST_BYTES).await?;
        if since == subtitles {
            return Ok(());
        }
        subtitles = since;
    }
    Err(contended(&subtitles_key))
}

/// Publishes the subtitles that this attempt has PUT as its `SubtitleSegment`: their playlist, then their line in the
/// master if there is one already. If not, `write_master` adds it.
pub async fn add_subtitles(
    context: &StageContext,
    language: Option<&str>,
) -> Result<(), StageError> {
    let (video, attempt) = (context.lease.video, context.lease.attempt);
    let segment = StorageKey::SubtitleSegment { video, attempt };
    let Some((vtt, _)) = read(context, &segment, MAX_VTT_BYTES).await? else {
        return Err(StageError::internal(format!("{segment} must be there before its playlist")));
    };
    let text = hls::subtitles_playlist(video, attempt, last_cue_end_us(&vtt), language);
    FixedPlaylist::new(subtitles_key(context)).write(context, text).await?;

    let master_key = StorageKey::MasterPlaylist { video };
    let mut patience = Patience::new();
    loop {
        let tried = try_patch(context, &master_key, language).await;
        if let Some(()) = patience.after(&master_key, tried).await? {
            return Ok(());
        }
    }
}

/// Adds the subtitles' line to the master; nothing to do without one. `None` when somebody else wrote in between.
async fn try_patch(
    context: &StageContext,
    key: &StorageKey,
    language: Option<&str>,
) -> Result<Option<()>, StageError> {
    let Some((master, etag)) = read(context, key, MAX_PLAYLIST_BYTES).await? else {
        return Ok(Some(()));
    };
    let patched = hls::with_subtitles(&master, language);
    if patched == master {
        return Ok(Some(()));
    }
    let written = context.put_if(key, patched.into(), &Precondition::IfMatch(etag)).await?;
    Ok(written.map(drop))
}

/// Writes an object whose bytes are the same whichever attempt makes them, over what is there.
pub(super) async fn replace(
    context: &StageContext,
    key: &StorageKey,
    body: Bytes,
) -> Result<(), StageError> {
    let mut patience = Patience::new();
    loop {
        let tried = try_replace(context, key, &body).await;
        if let Some(()) = patience.after(key, tried).await? {
            return Ok(());
        }
    }
}

/// `None` when somebody else wrote in between.
async fn try_replace(
    context: &StageContext,
    key: &StorageKey,
    body: &Bytes,
) -> Result<Option<()>, StageError> {
    let precondition = match context.tools.storage.head(&key.to_string()).await {
        Ok(published) => Precondition::IfMatch(published.etag),
        Err(StorageError::NotFound(_)) => Precondition::IfAbsent,
        Err(error) => return Err(StageError::of_storage(error)),
    };
    Ok(context.put_if(key, body.clone(), &precondition).await?.map(drop))
}

fn subtitles_key(context: &StageContext) -> StorageKey {
    StorageKey::MediaPlaylist { video: context.lease.video, rendition: hls::SUBTITLES.to_owned() }
}

/// Text and `ETag` of an object of ours; `None` if it is not there.
async fn read(
    context: &StageContext,
    key: &StorageKey,
    max_bytes: u64,
) -> Result<Option<(String, String)>, StageError> {
    match context.tools.storage.get(&key.to_string(), max_bytes).await {
        Ok((body, published)) => {
            Ok(Some((String::from_utf8_lossy(&body).into_owned(), published.etag)))
        }
        Err(StorageError::NotFound(_)) => Ok(None),
        Err(error) => Err(StageError::of_storage(error)),
    }
}

fn contended(key: &StorageKey) -> StageError {
    StageError::Retry {
        cause: FailureCause::Dependency,
        detail: format!("{key} was changed by somebody else {TRIES} times in a row"),
    }
}

/// The latest end of a cue in a `WebVTT` file of ours, 0 without cues.
fn last_cue_end_us(vtt: &str) -> i64 {
    vtt.lines()
        .filter_map(|line| line.split_once(" --> "))
        .filter_map(|(_, end)| cue_time_us(end.split_whitespace().next()?))
        .max()
        .unwrap_or(0)
}

/// `[hours:]minutes:seconds.milliseconds`
fn cue_time_us(time: &str) -> Option<i64> {
    let (clock, milliseconds) = time.split_once('.')?;
    let mut seconds = 0_i64;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    seconds.checked_mul(1_000)?.checked_add(milliseconds.parse().ok()?)?.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(attempt: i32, seconds: i64, ended: bool) -> Reach {
        Reach { attempt, duration_us: seconds * 1_000_000, ended }
    }

    #[test]
    fn a_new_attempt_takes_over_when_it_is_level() {
        let published = reach(1, 8, false);
        assert_eq!(succession(&published, &reach(2, 4, false)), Succession::Wait);
        assert_eq!(succession(&published, &reach(2, 8, false)), Succession::Replace);
        assert_eq!(succession(&published, &reach(2, 12, false)), Succession::Replace);
    }

    #[test]
    fn a_finished_playlist_is_only_replaced_by_a_finished_one() {
        let published = reach(1, 8, true);
        assert_eq!(succession(&published, &reach(2, 12, false)), Succession::Wait);
        assert_eq!(succession(&published, &reach(2, 8, true)), Succession::Replace);
    }

    #[test]
    fn an_old_attempt_never_touches_a_newer_playlist() {
        assert_eq!(succession(&reach(3, 2, false), &reach(2, 60, true)), Succession::Lost);
    }

    #[test]
    fn an_attempt_replaces_what_it_wrote_itself() {
        assert_eq!(succession(&reach(2, 8, false), &reach(2, 8, false)), Succession::Replace);
        assert_eq!(succession(&reach(2, 8, false), &reach(2, 4, false)), Succession::Replace);
    }

    #[test]
    fn a_playlist_without_an_attempt_is_older_than_any() {
        assert_eq!(succession(&Reach::of("#EXTM3U\n"), &reach(1, 2, false)), Succession::Replace);
    }

    #[test]
    fn the_last_cue_decides_how_long_the_subtitles_are() {
        let vtt = "WEBVTT\n\n00:01.000 --> 00:09.500\nlate\n\n01:00:02.250 --> 01:00:03.750 line:0\nx --> y\n";
        assert_eq!(last_cue_end_us(vtt), 3_603_750_000);
        assert_eq!(last_cue_end_us("WEBVTT\n"), 0);
    }
}
