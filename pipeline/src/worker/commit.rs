//! The end of an attempt: one fenced statement that says everything, and one line in the log that says it again.
//!
//! A cut connection leaves open whether the statement took effect. It is a compare-and-set, so it is simply sent again;
//! should it then match no row, the attempt's own entry tells whether the first sending did.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ending::Ending;
use super::held::Hold;
use crate::db::{Commit, Db, DbError, DuplicateCommit, Retried};
use crate::job::Lease;
use crate::metrics::{self, AttemptEnd};
use crate::retry::Backoff;
use crate::stages::{Embedded, Outcome, Transcoded};
use crate::video::{FailureCause, VideoId};

/// How long a duplicate waits at most before it looks at its original again. It is woken when that ends.
const WAIT_POLL: Duration = Duration::from_mins(1);

/// Commits an ending. Afterwards the row is right, or its lease runs out and the sweep takes the job back. True if this
/// attempt was the job's last: it is done or dead.
pub(super) async fn settle(db: &Db, hold: &Hold, ending: Ending) -> bool {
    let settler = Settler { db, hold };
    let settled = match settler.commit(&ending).await {
        Ok(settled) => settled,
        // A result that the database refuses is a defect: told, and counted as a failure, so that it ends.
        Err(error) if matches!(ending, Ending::Done(_)) => {
            log(&hold.lease, &ending, &Settled::Refused(error.clone()));
            let ending = Ending::failed(FailureCause::Internal, &error.to_string(), 0);
            match settler.commit(&ending).await {
                Ok(settled) => {
                    log(&hold.lease, &ending, &settled);
                    return settled.ends_the_job(&ending);
                }
                Err(error) => Settled::Refused(error),
            }
        }
        Err(error) => Settled::Refused(error),
    };
    log(&hold.lease, &ending, &settled);
    settled.ends_the_job(&ending)
}

/// What became of the commit.
#[derive(Debug)]
enum Settled {
    Applied,
    /// Dead although another try was asked for: it was the last.
    Dead,
    Waiting,
    /// The original of a duplicate is not ready (any more): nothing was changed.
    OriginalNotReady,
    Stale,
    /// No answer until the lease was over.
    Unknown,
    Refused(DbError),
}

impl Settled {
    fn ends_the_job(&self, ending: &Ending) -> bool {
        match self {
            Self::Dead => true,
            Self::Applied => matches!(ending, Ending::Done(_) | Ending::Dead { .. }),
            Self::Waiting
            | Self::OriginalNotReady
            | Self::Stale
            | Self::Unknown
            | Self::Refused(_) => false,
        }
    }
}

impl From<Commit> for Settled {
    fn from(commit: Commit) -> Self {
        match commit {
            Commit::Applied => Self::Applied,
            Commit::Stale => Self::Stale,
        }
    }
}

impl From<Retried> for Settled {
    fn from(retried: Retried) -> Self {
        match retried {
            Retried::Again => Self::Applied,
            Retried::Dead => Self::Dead,
            Retried::Stale => Self::Stale,
        }
    }
}

impl From<DuplicateCommit> for Settled {
    fn from(commit: DuplicateCommit) -> Self {
        match commit {
            DuplicateCommit::Applied => Self::Applied,
            DuplicateCommit::Stale => Self::Stale,
            DuplicateCommit::OriginalNotReady => Self::OriginalNotReady,
        }
    }
}

struct Settler<'a> {
    db: &'a Db,
    hold: &'a Hold,
}

impl Settler<'_> {
    async fn commit(&self, ending: &Ending) -> Result<Settled, DbError> {
        let (db, lease) = (self.db, &self.hold.lease);
        match ending {
            Ending::Done(outcome) => self.complete(outcome).await,
            Ending::Retry { cause, detail, strike, max, delay } => {
                self.insist(|| db.retry(lease, *cause, detail, *strike, *max, *delay)).await
            }
            Ending::Dead { cause, detail } => self.insist(|| db.fail(lease, *cause, detail)).await,
            Ending::Release { detail, delay } => {
                self.insist(|| db.release(lease, detail, *delay)).await
            }
            Ending::Nothing => Ok(Settled::Stale),
        }
    }

    async fn complete(&self, outcome: &Outcome) -> Result<Settled, DbError> {
        let (db, lease) = (self.db, &self.hold.lease);
        match outcome {
            Outcome::Original { sha256 } => {
                self.insist(|| db.complete_original(lease, *sha256)).await
            }
            Outcome::Duplicate { of, sha256 } => self.complete_duplicate(*of, *sha256).await,
            Outcome::WaitFor { original, sha256 } => self.wait_for(*original, *sha256).await,
            Outcome::Transcoded(Transcoded { sha256, facts, playback }) => {
                let playback = to_json(playback)?;
                self.insist(|| db.complete_transcode(lease, *sha256, facts, &playback)).await
            }
            Outcome::Transcribed(transcribed) => {
                let result = to_json(transcribed)?;
                self.insist(|| db.complete_speech(lease, &result)).await
            }
            Outcome::Embedded(Embedded { engine, model, segments, vector }) => {
                let dims = vector.as_ref().map_or(0, |vector| vector.components.len());
                let result =
                    json!({"engine": engine, "model": model, "segments": segments, "dims": dims});
                let vector =
                    vector.as_ref().map(|vector| (vector.scale, vector.components.as_slice()));
                self.insist(|| db.complete_embeddings(lease, engine, model, vector, &result)).await
            }
        }
    }

    async fn complete_duplicate(&self, of: VideoId, sha256: [u8; 32]) -> Result<Settled, DbError> {
        let (db, lease) = (self.db, &self.hold.lease);
        match self.insist(|| db.complete_duplicate(lease, of, sha256)).await? {
            Settled::OriginalNotReady => self.wait_for(of, sha256).await,
            settled => Ok(settled),
        }
    }

    async fn wait_for(&self, original: VideoId, sha256: [u8; 32]) -> Result<Settled, DbError> {
        let (db, lease) = (self.db, &self.hold.lease);
        match self.insist(|| db.wait_for(lease, original, sha256, WAIT_POLL)).await? {
            Settled::Applied => Ok(Settled::Waiting),
            other => Ok(other),
        }
    }

    /// Sends a statement until it is answered or the lease is over. Fenced, so that it may come late.
    async fn insist<T, F>(&self, statement: impl Fn() -> F) -> Result<Settled, DbError>
    where
        T: Into<Settled>,
        F: Future<Output = Result<T, DbError>>,
    {
        let mut delays = Backoff::new();
        let mut unanswered = false;
        loop {
            let answer = match statement().await.map(Into::into) {
                // Either somebody else has the job, or our own first sending ended the attempt.
                Ok(Settled::Stale) if unanswered => self.own_outcome().await,
                answer => answer,
            };
            match answer {
                Ok(settled) => return Ok(settled),
                Err(DbError::LeaseLost) => return Ok(Settled::Stale),
                Err(DbError::Unavailable(_) | DbError::Unusable(_)) => unanswered = true,
                Err(
                    error @ (DbError::Constraint(_)
                    | DbError::BadRow { .. }
                    | DbError::Statement(_)),
                ) => return Err(error),
            }
            if self.hold.is_over(Instant::now()) {
                return Ok(Settled::Unknown);
            }
            tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(1))).await;
        }
    }

    /// Only the holder of an attempt writes how it ended. But `lost` may be the sweep's, and `cancelled` is an operator's.
    async fn own_outcome(&self) -> Result<Settled, DbError> {
        Ok(match self.db.attempt_outcome(&self.hold.lease).await?.as_deref() {
            None | Some("lost" | "cancelled") => Settled::Stale,
            Some(_) => Settled::Applied,
        })
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, DbError> {
    serde_json::to_value(value).map_err(|error| DbError::Statement(error.to_string()))
}

/// The one line per attempt, and the one count.
fn log(lease: &Lease, ending: &Ending, settled: &Settled) {
    metrics::ATTEMPTS[lease.stage][end_of(settled, ending)].add(1);
    let _job = tracing::info_span!(
        "job",
        video.id = %lease.video,
        stage = %lease.stage,
        attempt = lease.attempt,
        job.id = %lease.job
    )
    .entered();
    match (settled, ending) {
        (Settled::Stale, _) => tracing::warn!("lease lost: what this attempt did does not count"),
        (Settled::Unknown, _) => {
            tracing::warn!("no answer from Postgres: the sweep will decide about the job");
        }
        (Settled::Refused(error), _) => {
            tracing::error!(%error, "commit refused");
        }
        (Settled::Waiting | Settled::OriginalNotReady, _) => {
            tracing::info!("duplicate waits for its original");
        }
        (Settled::Applied | Settled::Dead, Ending::Done(_)) => tracing::info!("stage done"),
        (Settled::Applied | Settled::Dead, Ending::Release { detail, delay }) => {
            tracing::info!(reason = detail, ?delay, "job released, not counted");
        }
        (Settled::Applied, Ending::Retry { cause, detail, delay, .. }) => {
            tracing::warn!(%cause, detail, ?delay, "try failed, there will be another");
        }
        (Settled::Dead, Ending::Retry { cause, detail, .. })
        | (_, Ending::Dead { cause, detail }) => {
            if *cause == FailureCause::Internal {
                tracing::error!(%cause, detail, "job is dead by a defect of ours");
            } else {
                tracing::warn!(%cause, detail, "job is dead");
            }
        }
        (Settled::Applied | Settled::Dead, Ending::Nothing) => {}
    }
}

/// What is counted.
fn end_of(settled: &Settled, ending: &Ending) -> AttemptEnd {
    match (settled, ending) {
        (Settled::Stale, _) | (_, Ending::Nothing) => AttemptEnd::Stale,
        (Settled::Unknown, _) => AttemptEnd::Unknown,
        (Settled::Refused(_), _) => AttemptEnd::Refused,
        (Settled::Waiting | Settled::OriginalNotReady, _) => AttemptEnd::Waiting,
        (Settled::Applied | Settled::Dead, Ending::Done(_)) => AttemptEnd::Done,
        (Settled::Applied | Settled::Dead, Ending::Release { .. }) => AttemptEnd::Released,
        (Settled::Applied, Ending::Retry { .. }) => AttemptEnd::Retried,
        (Settled::Dead, Ending::Retry { .. })
        | (Settled::Applied | Settled::Dead, Ending::Dead { .. }) => AttemptEnd::Dead,
    }
}
