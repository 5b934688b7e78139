//! Finds what no webhook announced: the bucket against the rows. MinIO loses events by design; the bucket does not.
//! Never deletes or refuses anything: it announces, by the same statement as the webhook, so that racing is harmless.

mod listing;
mod open_uploads;

use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::db::{Announcer, Db, DbError};
use crate::event::{CreatedObject, bare_etag};
use crate::metrics;
use crate::retry::Outage;
use crate::storage::{ObjectInfo, Storage, StorageError};
use crate::video::VideoId;

/// So many rounds in a row that find something mean that the webhook does not arrive.
const SUSPICIOUS_ROUNDS: u32 = 3;

#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    pub period: Duration,
    /// Objects younger than this are left to their webhook.
    pub grace: Duration,
}

/// An upload that no webhook announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub size_bytes: u64,
    /// What it became; nothing yet in a dry run.
    pub video: Option<VideoId>,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self { period: Duration::from_mins(1), grace: Duration::from_secs(30) }
    }
}

/// Runs a round at once and then after each period, until `stop` fires.
pub async fn run(config: ReconcileConfig, db: Db, storage: Storage, stop: CancellationToken) {
    let reconciler =
        Reconciler { grace: config.grace, dry_run: false, db, storage, stop: stop.clone() };
    let mut outage = Outage::default();
    let mut rounds_with_finds = 0;
    while !stop.is_cancelled() {
        let pause = match reconciler.round().await {
            Ok(found) => {
                let found = found.len();
                metrics::RECONCILED.add(found);
                if outage.worked() {
                    tracing::info!("reconcile goes on");
                }
                rounds_with_finds = if found > 0 { rounds_with_finds + 1 } else { 0 };
                tell(found, rounds_with_finds);
                config.period
            }
            Err(error) => {
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(%error, "reconcile held up, tries again until it works");
                }
                setback.delay.min(config.period)
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round, for an operator. A dry one changes nothing: it says what a round would announce.
pub async fn once(
    config: &ReconcileConfig,
    dry_run: bool,
    db: Db,
    storage: Storage,
) -> Result<Vec<Found>, Interrupted> {
    let stop = CancellationToken::new();
    Reconciler { grace: config.grace, dry_run, db, storage, stop }.round().await
}

fn tell(found: usize, rounds_with_finds: u32) {
    if rounds_with_finds >= SUSPICIOUS_ROUNDS {
        tracing::warn!(
            uploads = found,
            rounds = rounds_with_finds,
            "found uploads that no webhook announced, again: `clipstream doctor` says where events get lost"
        );
    } else if found > 0 {
        tracing::info!(uploads = found, "found uploads that no webhook announced");
    }
}

struct Reconciler {
    grace: Duration,
    /// Look and tell, and change nothing.
    dry_run: bool,
    db: Db,
    storage: Storage,
    stop: CancellationToken,
}

/// Why a round did not come to its end. What it found before is committed; the next round sees the rest.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("stopped by shutdown")]
    Stopped,
}

impl Reconciler {
    /// The uploads that it found.
    async fn round(&self) -> Result<Vec<Found>, Interrupted> {
        let round = async {
            let mut found = self.find_open_uploads().await?;
            for listed in self.find_in_listing().await? {
                // In a dry run the listing meets what the rows led to already.
                if !found.iter().any(|known| known.key == listed.key) {
                    found.push(listed);
                }
            }
            // Last: whatever was uploaded has been found by now, and a round that was cut short expires nothing.
            if !self.dry_run {
                self.expire_unused().await?;
            }
            Ok(found)
        };
        match round.await {
            Err(Interrupted::Stopped) => Ok(Vec::new()),
            answer => answer,
        }
    }

    fn go_on(&self) -> Result<(), Interrupted> {
        if self.stop.is_cancelled() { Err(Interrupted::Stopped) } else { Ok(()) }
    }

    /// Whether an object's webhook may still be on its way. An uploader can forge the time: one in the future is not young.
    fn is_young(&self, last_modified: Option<OffsetDateTime>) -> bool {
        last_modified.is_some_and(|at| {
            let age = clock::now() - at;
            !age.is_negative() && age < self.grace
        })
    }

    /// Announces an object. `Some` if it made or revived a video. One that cannot be stored is passed over: the others
    /// must not wait behind it.
    async fn announce(&self, object: &CreatedObject) -> Result<Option<Found>, Interrupted> {
        if let Err(reason) = object.check() {
            tracing::warn!(object.key, reason, "an upload cannot become a video");
            return Ok(None);
        }
        let found = |video| Found { key: object.key.clone(), size_bytes: object.size_bytes, video };
        if self.dry_run {
            return Ok(Some(found(None)));
        }
        let accepted = match self.db.accept_object(object, Announcer::Reconcile).await {
            Ok(accepted) => accepted,
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(object.key, %error, "an upload cannot become a video");
                return Ok(None);
            }
        };
        if accepted.created {
            tracing::info!(
                video.id = %accepted.video,
                object.key = object.key,
                size_bytes = object.size_bytes,
                "upload found without webhook"
            );
        }
        Ok(accepted.created.then(|| found(Some(accepted.video))))
    }

    fn object(&self, key: String, info: ObjectInfo) -> CreatedObject {
        CreatedObject {
            bucket: self.storage.bucket().to_owned(),
            key,
            etag: bare_etag(&info.etag),
            version_id: info.version_id.filter(|id| id != "null"),
            size_bytes: info.size_bytes,
            content_type: info.content_type,
            sequencer: None,
        }
    }
}
