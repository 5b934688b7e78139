//! What a running stage reports, committed while it runs: each report is one fenced statement.
//! A stage that waits for an answer gets one, or is told to stop; a short absence of Postgres does not cost it its work.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::held::{Hold, Stop};
use crate::db::{Commit, Db, DbError};
use crate::retry::Backoff;
use crate::stages::{Report, StageError};
use crate::video::FailureCause;

/// Progress is for people, and every row update is a write to disk.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Takes the reports of one attempt, in their order.
pub(super) struct Clerk<'a> {
    db: &'a Db,
    hold: &'a Hold,
    progress_at: Option<Instant>,
}

impl<'a> Clerk<'a> {
    pub(super) fn new(db: &'a Db, hold: &'a Hold) -> Self {
        Self { db, hold, progress_at: None }
    }

    pub(super) async fn take(&mut self, report: Report) {
        let (db, lease) = (self.db, &self.hold.lease);
        match report {
            Report::Progress(share) => self.progress(share).await,
            Report::Writing(objects, reply) => {
                let objects: Vec<(String, u64)> =
                    objects.into_iter().map(|(key, bytes)| (key.to_string(), bytes)).collect();
                let committed = self.insist(|| db.announce(lease, &objects)).await;
                answer(reply, self.fenced(committed));
            }
            Report::Playable(reply) => {
                let committed = self.insist(|| db.mark_playable(lease)).await;
                answer(reply, self.fenced(committed));
            }
            Report::ClaimSize { size_bytes, reply } => {
                answer(reply, self.insist(|| db.claim_size(lease, size_bytes)).await);
            }
            Report::ClaimBytes { sha256, candidates, reply } => {
                let claimed = self.insist(|| db.claim_bytes(lease, sha256, &candidates)).await;
                answer(reply, claimed);
            }
        }
    }

    /// At most once a second, and never repeated: the next one says more.
    async fn progress(&mut self, share: f32) {
        let early = self.progress_at.is_some_and(|at| at.elapsed() < PROGRESS_PERIOD);
        if early || !share.is_finite() {
            return;
        }
        self.progress_at = Some(Instant::now());
        match self.db.set_progress(&self.hold.lease, share.clamp(0.0, 1.0)).await {
            Ok(Commit::Applied) => {}
            Ok(Commit::Stale) => self.hold.stop(Stop::LeaseLost),
            Err(error) => {
                tracing::debug!(job.id = %self.hold.lease.job, %error, "progress not kept");
            }
        }
    }

    /// Repeats a repeatable statement until it is answered or the attempt must stop.
    async fn insist<T, F>(&self, statement: impl Fn() -> F) -> Result<T, StageError>
    where
        F: Future<Output = Result<T, DbError>>,
    {
        let mut delays = Backoff::new();
        loop {
            let error = match statement().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error {
                DbError::Unavailable(_) | DbError::Unusable(_) => {
                    tokio::select! {
                        () = self.hold.token().cancelled() => return Err(StageError::Stopped),
                        () = tokio::time::sleep(delays.next().unwrap_or(PROGRESS_PERIOD)) => {}
                    }
                }
                DbError::LeaseLost => {
                    self.hold.stop(Stop::LeaseLost);
                    return Err(StageError::LeaseLost);
                }
                DbError::Constraint(_) | DbError::BadRow { .. } | DbError::Statement(_) => {
                    return Err(StageError::Retry {
                        cause: FailureCause::Internal,
                        detail: error.to_string(),
                    });
                }
            }
        }
    }

    fn fenced(&self, committed: Result<Commit, StageError>) -> Result<(), StageError> {
        match committed? {
            Commit::Applied => Ok(()),
            Commit::Stale => {
                self.hold.stop(Stop::LeaseLost);
                Err(StageError::LeaseLost)
            }
        }
    }
}

fn answer<T>(reply: oneshot::Sender<Result<T, StageError>>, answer: Result<T, StageError>) {
    if reply.send(answer).is_err() {
        tracing::debug!("a stage did not wait for the answer to its report");
    }
}
