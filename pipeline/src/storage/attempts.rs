//! Deadlines and second tries for calls to MinIO: the crate has neither.
//! Only calls that may safely happen twice come here.

use std::time::Duration;

use tokio::time::Instant;

use super::StorageError;
use crate::retry::retry_call;

/// Longest one try of a call may take that moves no bytes to speak of.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// Longest silence within a transfer.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// Slowest transfer that is not given up, in bytes per second.
const SLOWEST: u64 = 256 * 1024;

/// How often a call is made at most, and how often a transfer may break in a row: enough for a MinIO that restarts.
pub(super) const TRIES: usize = 6;

/// What a transfer of so many bytes may take as a whole.
pub(super) fn by_size(size_bytes: u64) -> Duration {
    CALL + Duration::from_secs(size_bytes / SLOWEST)
}

/// Tries until it is done, refused, tried often enough, or the time of one call is used up: a MinIO that hangs must
/// not hold its caller for several deadlines.
pub(super) async fn repeated<T, F>(attempt: impl Fn() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let until = Instant::now() + CALL;
    let again = |error: &StorageError| {
        let again = matches!(error, StorageError::Unavailable(_)) && Instant::now() < until;
        if again {
            tracing::debug!(%error, "trying again");
        }
        again
    };
    retry_call(TRIES, again, tokio::time::sleep, attempt).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn tries_of(error: fn() -> StorageError) -> usize {
        let tries = AtomicUsize::new(0);
        let ended: Result<(), _> = repeated(|| async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(error())
        })
        .await;
        assert!(ended.is_err());
        tries.into_inner()
    }

    #[tokio::test]
    async fn an_outage_is_tried_again_and_a_refusal_is_final() {
        assert_eq!(tries_of(|| StorageError::Unavailable("away".into())).await, TRIES);
        assert_eq!(tries_of(|| StorageError::Refused("no".into())).await, 1);
        assert_eq!(tries_of(|| StorageError::PreconditionFailed("changed".into())).await, 1);
    }

    #[test]
    fn a_large_transfer_may_take_longer_than_a_small_one() {
        assert_eq!(by_size(0), CALL);
        assert!(by_size(1 << 30) > Duration::from_hours(1));
    }
}
