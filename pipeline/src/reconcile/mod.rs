//! Finds what no webhook announced: the bucket against the rows. MinIO loses events by design; the bucket does not.
//! Never deletes or refuses anything: it announces, by the same statement as the webhook, so that racing is harmless.

mod listing;
mod open_uploads;

use std::collections::BTreeSet;
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
/// So many objects in a row that cannot be asked for are no longer a matter of single objects.
const SILENT_IN_A_ROW: u32 = 50;
/// Longest that storage may take to say that it is there.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    pub period: Duration,
    /// Objects younger than this are left to their webhook.
    pub grace: Duration,
    /// Objects per page of the listing, at most 1,000.
    pub page: u16,
    /// Bounds a round of the daemon; the next one goes on where this one stopped.
    pub pages_per_round: usize,
}

/// An upload that no webhook announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub size_bytes: u64,
    /// What it became; nothing yet in a dry run.
    pub video: Option<VideoId>,
}

/// What a round came to.
#[derive(Debug, Default)]
pub struct Round {
    pub found: Vec<Found>,
    /// Keys whose objects are listed or announced and could not be asked for. Later rounds try again.
    pub passed_over: BTreeSet<String>,
    silent_in_a_row: u32,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self {
            period: Duration::from_mins(1),
            grace: Duration::from_secs(30),
            page: 1_000,
            pages_per_round: 200,
        }
    }
}

/// Runs a round at once and then after each period, until `stop` fires.
pub async fn run(config: ReconcileConfig, db: Db, storage: Storage, stop: CancellationToken) {
    let period = config.period;
    let reconciler =
        Reconciler { config, whole: false, dry_run: false, db, storage, stop: stop.clone() };
    let mut outage = Outage::default();
    let mut rounds_with_finds = 0;
    while !stop.is_cancelled() {
        let pause = match reconciler.round().await {
            Ok(round) => {
                let found = round.found.len();
                if outage.worked() {
                    tracing::info!("reconcile goes on");
                }
                rounds_with_finds = if found > 0 { rounds_with_finds + 1 } else { 0 };
                tell(found, rounds_with_finds);
                period
            }
            Err(error) => {
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(%error, "reconcile held up, tries again until it works");
                }
                setback.delay.min(period)
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round for an operator, from the first object to the last. A dry one changes nothing: it says what a round would
/// announce.
pub async fn once(
    config: ReconcileConfig,
    dry_run: bool,
    db: Db,
    storage: Storage,
) -> Result<Round, Interrupted> {
    let stop = CancellationToken::new();
    Reconciler { config, whole: true, dry_run, db, storage, stop }.round().await
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
    config: ReconcileConfig,
    /// From the first object to the last, wherever the daemon's listing is.
    whole: bool,
    /// Look and tell, and change nothing.
    dry_run: bool,
    db: Db,
    storage: Storage,
    stop: CancellationToken,
}

/// What storage says of an object.
enum Answer {
    There(ObjectInfo),
    Gone,
    /// It is there, and never to be read like this.
    Unreadable(String),
    /// Passed over.
    Silence,
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
    async fn round(&self) -> Result<Round, Interrupted> {
        let mut round = Round::default();
        match self.look(&mut round).await {
            Ok(()) | Err(Interrupted::Stopped) => Ok(round),
            Err(error) => Err(error),
        }
    }

    async fn look(&self, round: &mut Round) -> Result<(), Interrupted> {
        self.find_open_uploads(round).await?;
        self.find_in_listing(round).await?;
        // Last: whatever was uploaded has been found by now, and a round that was cut short expires nothing.
        if !self.dry_run {
            self.expire_unused().await?;
        }
        Ok(())
    }

    /// Asks for one object. While storage itself is there, one that cannot be asked for is passed over, whatever the
    /// reason: everything behind it would wait for it, for ever if need be.
    async fn ask(&self, key: &str, round: &mut Round) -> Result<Answer, Interrupted> {
        let answer = match self.storage.head(key).await {
            Ok(info) => Answer::There(info),
            Err(StorageError::NotFound(_)) => Answer::Gone,
            Err(StorageError::Refused(reason)) => Answer::Unreadable(reason),
            Err(error) => {
                round.silent_in_a_row += 1;
                if round.silent_in_a_row >= SILENT_IN_A_ROW
                    || self.storage.ping(PING).await.is_err()
                {
                    return Err(error.into());
                }
                if round.passed_over.insert(key.to_owned()) {
                    tracing::warn!(object.key = key, %error, "an upload cannot be asked for, passed over");
                }
                return Ok(Answer::Silence);
            }
        };
        round.silent_in_a_row = 0;
        Ok(answer)
    }

    fn go_on(&self) -> Result<(), Interrupted> {
        if self.stop.is_cancelled() { Err(Interrupted::Stopped) } else { Ok(()) }
    }

    /// Whether an object's webhook may still be on its way. An uploader can forge the time: one in the future is not young.
    fn is_young(&self, last_modified: Option<OffsetDateTime>) -> bool {
        last_modified.is_some_and(|at| {
            let age = clock::now() - at;
            !age.is_negative() && age < self.config.grace
        })
    }

    /// Announces an object, and notes it if it made or revived a video. One that cannot be stored is passed over: the
    /// others must not wait behind it.
    async fn announce(&self, object: &CreatedObject, round: &mut Round) -> Result<(), Interrupted> {
        if let Err(reason) = object.check() {
            tracing::warn!(object.key, reason, "an upload cannot become a video");
            return Ok(());
        }
        let found = |video| Found { key: object.key.clone(), size_bytes: object.size_bytes, video };
        if self.dry_run {
            // The listing meets what the rows led to already.
            if !round.found.iter().any(|known| known.key == object.key) {
                round.found.push(found(None));
            }
            return Ok(());
        }
        let accepted = match self.db.accept_object(object, Announcer::Reconcile).await {
            Ok(accepted) => accepted,
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(object.key, %error, "an upload cannot become a video");
                return Ok(());
            }
        };
        if accepted.created {
            // Here, and not at the end of the round: that may not come.
            metrics::RECONCILED.add(1);
            round.found.push(found(Some(accepted.video)));
            tracing::info!(
                video.id = %accepted.video,
                object.key = object.key,
                size_bytes = object.size_bytes,
                "upload found without webhook"
            );
        }
        Ok(())
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
