//! What a stage may ask of the worker while it runs, and the one way in which objects reach the bucket.
//! Every answer comes after a commit that is fenced by the attempt. A worker that no longer listens has given the
//! attempt up, so a closed channel is a lost lease.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Report, StageContext, StageError};
use crate::storage::{Precondition, StorageError, StorageKey};
use crate::video::{BytesClaim, FailureCause, SizeClaim, VideoId};

impl StageContext {
    /// 0 to 1. Never waits: a report that finds the channel full is followed by a newer one.
    pub(super) fn progress(&self, done: f32) {
        drop(self.reports.try_send(Report::Progress(done.clamp(0.0, 1.0))));
    }

    /// Writes down objects that are about to be PUT. A crash between here and the PUT leaves a row without an object,
    /// which deleting tolerates; the other order would leave an object that nothing ever deletes.
    pub(super) async fn announce(&self, objects: Vec<(StorageKey, u64)>) -> Result<(), StageError> {
        self.ask(|reply| Report::Writing(objects, reply)).await
    }

    /// The first segments of every rendition are up and the master names them.
    pub(super) async fn playable(&self) -> Result<(), StageError> {
        self.ask(Report::Playable).await
    }

    pub(super) async fn claim_size(&self, size_bytes: u64) -> Result<SizeClaim, StageError> {
        self.ask(|reply| Report::ClaimSize { size_bytes, reply }).await
    }

    pub(super) async fn claim_bytes(
        &self,
        sha256: [u8; 32],
        candidates: Vec<(VideoId, [u8; 32])>,
    ) -> Result<BytesClaim, StageError> {
        self.ask(|reply| Report::ClaimBytes { sha256, candidates, reply }).await
    }

    /// Announces an object, then PUTs it. A failed precondition is a failed try.
    pub(super) async fn put(
        &self,
        key: &StorageKey,
        body: Bytes,
        precondition: &Precondition,
    ) -> Result<(), StageError> {
        match self.put_if(key, body, precondition).await? {
            Some(_) => Ok(()),
            None => Err(StageError::Retry {
                cause: FailureCause::Dependency,
                detail: format!("{key} was written by somebody else at the same time"),
            }),
        }
    }

    /// Announces an object, then PUTs it: its `ETag`, or `None` when the precondition does not hold.
    pub(super) async fn put_if(
        &self,
        key: &StorageKey,
        body: Bytes,
        precondition: &Precondition,
    ) -> Result<Option<String>, StageError> {
        self.announce(vec![(key.clone(), body.len() as u64)]).await?;
        match self.tools.storage.put(key, body, precondition).await {
            Ok(etag) => Ok(Some(etag)),
            // 404 is what MinIO says where the object to be replaced is gone.
            Err(StorageError::PreconditionFailed(_) | StorageError::NotFound(_)) => Ok(None),
            Err(error) => Err(StageError::of_storage(error)),
        }
    }

    /// Does the work unless the process must stop or the lease is lost; then the work is dropped where it waits.
    /// Both end as `Stopped`: the stage cannot tell them apart, and giving back a lost lease changes no row.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, StageError> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(StageError::Stopped),
            result = work => result,
        }
    }

    async fn ask<T>(
        &self,
        report: impl FnOnce(oneshot::Sender<Result<T, StageError>>) -> Report,
    ) -> Result<T, StageError> {
        let (reply, answer) = oneshot::channel();
        self.reports.send(report(reply)).await.map_err(|_| StageError::LeaseLost)?;
        answer.await.map_err(|_| StageError::LeaseLost)?
    }
}
