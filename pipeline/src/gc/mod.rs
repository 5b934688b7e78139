//! Clears away what nothing names: objects of attempts that did not win, thumbnails that say "processing" of what is no
//! longer processed, rows of objects that never came to be. Never a source, never what a playlist or a result names,
//! never anything of a video whose jobs are open.
//!
//! The object goes first and its row second. A crash in between leaves a row without an object, which the next round
//! finds again; the other order would leave an object that nobody ever finds. Every process may run it at once: the
//! second deletes what is not there, which is fine. Multipart uploads that nobody completed are MinIO's own to clear.

mod winners;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db::{Db, DbError, Uncollected};
use crate::job::JobId;
use crate::retry::Outage;
use crate::storage::{Storage, StorageError};
use crate::video::VideoId;

use winners::{Winners, is_playlist, is_segment};

/// Jobs whose leftovers one round looks at, and thumbnails that it removes.
const JOBS: u32 = 20;
const THUMBNAILS: u32 = 1_000;
/// Objects that one round deletes for one job; the next goes on.
const OBJECTS: usize = 500;
/// More than a playlist of ours for hours of video.
const MAX_PLAYLIST_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct GcConfig {
    pub period: Duration,
    /// Nothing younger is touched.
    pub age: Duration,
}

impl Default for GcConfig {
    fn default() -> Self {
        Self { period: Duration::from_mins(10), age: Duration::from_hours(24) }
    }
}

/// Runs a round at once and then after each period, until `stop` fires.
pub async fn run(config: GcConfig, db: Db, storage: Storage, stop: CancellationToken) {
    let mut collector =
        Collector { age: config.age, stuck: Vec::new(), db, storage, stop: stop.clone() };
    let mut outage = Outage::default();
    while !stop.is_cancelled() {
        let pause = match collector.round().await {
            Ok(deleted) => {
                if outage.worked() {
                    tracing::info!("gc goes on");
                }
                if deleted > 0 {
                    tracing::info!(
                        objects = deleted,
                        "removed what attempts left that did not win"
                    );
                }
                config.period
            }
            Err(error) => {
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(%error, "gc held up, tries again until it works");
                }
                // Each round begins where this one did: not more often than one that works.
                setback.delay.max(config.period)
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why a round did not come to its end. The next one finds the rest.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

struct Collector {
    age: Duration,
    /// Jobs with a leftover that storage refuses to delete, passed over until all others have been looked at: the oldest
    /// come first, and would be all that is ever looked at.
    stuck: Vec<JobId>,
    db: Db,
    storage: Storage,
    stop: CancellationToken,
}

impl Collector {
    /// How many objects it removed.
    async fn round(&mut self) -> Result<usize, Interrupted> {
        let mut deleted = self.remove_processing_thumbnails().await?;
        let jobs = self.db.uncollected(self.age, &self.stuck, JOBS).await?;
        if jobs.is_empty() {
            self.stuck.clear();
        }
        for uncollected in jobs {
            if self.stop.is_cancelled() {
                break;
            }
            deleted += self.collect(uncollected).await?;
        }
        Ok(deleted)
    }

    /// Whether it is gone. A refusal is about this object, or it is told again for the next.
    async fn delete(&self, key: &str) -> Result<bool, Interrupted> {
        match self.storage.delete_result(key).await {
            Ok(()) => Ok(true),
            Err(error @ (StorageError::Refused(_) | StorageError::Denied(_))) => {
                tracing::warn!(object.key = key, %error, "gc cannot delete it, passed over");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_processing_thumbnails(&self) -> Result<usize, Interrupted> {
        let stale = self.db.stale_processing(THUMBNAILS).await?;
        let mut deleted = 0;
        for (video, key) in stale {
            if self.stop.is_cancelled() {
                break;
            }
            if self.delete(&key).await? {
                self.db.forget_objects(video, &[key]).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    async fn collect(&mut self, uncollected: Uncollected) -> Result<usize, Interrupted> {
        let video = uncollected.video;
        let announced = self.db.objects_of(video, self.age).await?;
        let keys = || announced.iter().map(|object| object.key.as_str());
        let Some(winners) = self.winners(video, keys()).await? else {
            // What cannot be read may name anything: all of it stays.
            tracing::warn!(video.id = %video, "a playlist cannot be read: nothing of its video is collected");
            self.db.collected(uncollected).await?;
            return Ok(0);
        };
        let old = announced.iter().filter(|object| object.old).map(|object| &object.key);
        let (segments, fixed): (Vec<&String>, Vec<&String>) = old.partition(|key| is_segment(key));
        let losers: Vec<String> =
            segments.into_iter().filter(|key| !winners.name(key)).cloned().collect();
        let mut gone = Vec::new();
        for key in &losers[..losers.len().min(OBJECTS)] {
            if self.delete(key).await? {
                gone.push(key.clone());
            } else if self.stuck.last() != Some(&uncollected.job) {
                self.stuck.push(uncollected.job);
            }
        }
        let forgotten = self.db.forget_objects(video, &gone).await?;
        self.forget_what_never_came(video, fixed).await?;
        // Fewer: a job of the video runs again, or another process was at it. The next round sees.
        if usize::try_from(forgotten) == Ok(losers.len()) {
            self.db.collected(uncollected).await?;
        }
        Ok(gone.len())
    }

    /// What counts of a video; `None` if that cannot be known.
    async fn winners<'k>(
        &self,
        video: VideoId,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<Option<Winners>, Interrupted> {
        let (renditions, transcript) = self.db.winners(video).await?;
        let mut winners = Winners::new(video, renditions, transcript);
        for key in keys.filter(|key| is_playlist(key)) {
            match self.storage.get(key, MAX_PLAYLIST_BYTES).await {
                Ok((body, _)) => winners.add_playlist(&String::from_utf8_lossy(&body)),
                Err(StorageError::NotFound(_)) => {}
                Err(StorageError::Refused(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(winners))
    }

    /// Rows of objects that were announced by an attempt which then did not PUT them.
    async fn forget_what_never_came(
        &self,
        video: VideoId,
        keys: Vec<&String>,
    ) -> Result<(), Interrupted> {
        for key in keys {
            match self.storage.head(key).await {
                Err(StorageError::NotFound(_)) => {
                    self.db.forget_objects(video, std::slice::from_ref(key)).await?;
                }
                Ok(_) | Err(StorageError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
