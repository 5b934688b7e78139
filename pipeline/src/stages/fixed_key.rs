//! Documents at keys that do not name an attempt. The highest attempt wins, whatever the order in which they arrive:
//! each write replaces exactly the version that was read, and a version of a higher attempt is never replaced.

use bytes::Bytes;

use super::{StageContext, StageError};
use crate::storage::{Precondition, StorageError, StorageKey};
use crate::video::FailureCause;

/// Largest document that is read to find its attempt: the transcript of hours.
pub(super) const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Attempts of one job meet here only while one of them has lost its lease, so two or three rounds settle it.
const ROUNDS: u32 = 5;

impl StageContext {
    /// PUTs a document unless a higher attempt's is there: then this attempt has lost its lease.
    pub(super) async fn put_fixed(
        &self,
        key: &StorageKey,
        body: Bytes,
        attempt_of: fn(&[u8]) -> Option<i32>,
    ) -> Result<(), StageError> {
        for _ in 0..ROUNDS {
            let precondition = match self.tools.storage.get(&key.to_string(), MAX_BYTES).await {
                Ok((there, _)) if attempt_of(&there) > Some(self.lease.attempt) => {
                    return Err(StageError::LeaseLost);
                }
                Ok((_, info)) => Precondition::IfMatch(info.etag),
                Err(StorageError::NotFound(_)) => Precondition::IfAbsent,
                Err(error) => return Err(StageError::of_storage(error)),
            };
            if self.put_if(key, body.clone(), &precondition).await?.is_some() {
                return Ok(());
            }
        }
        Err(StageError::Retry {
            cause: FailureCause::Dependency,
            detail: format!("{key} changed each time it was about to be replaced"),
        })
    }
}
