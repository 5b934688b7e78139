//! The time in which a child waits because its parent cannot read: while storage is slow or away, the child stands still and
//! it is not its fault. Only long waits count, so that no child can buy time by reading without end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::input::{Input, InputError};

/// A read that takes less is no reason for anything.
const LONG_READ: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub(super) struct Owed(Arc<Mutex<Reads>>);

#[derive(Debug, Default)]
struct Reads {
    /// Of the long ones that are over, as far as nobody has asked for it.
    waited: Duration,
    /// Since when the present one is waited for, as far as nobody has asked for it.
    since: Option<Instant>,
}

impl Owed {
    /// The same input, with an eye on the clock.
    pub(super) fn counted<I: Input>(&self, input: I) -> Counted<I> {
        Counted { input, owed: self.clone() }
    }

    /// What has come up since this was asked last.
    pub(super) fn take(&self) -> Duration {
        self.with(|reads| {
            let now = Instant::now();
            let present = reads.since.map_or(Duration::ZERO, |since| now - since);
            let waited = std::mem::take(&mut reads.waited);
            if present < LONG_READ {
                return waited;
            }
            reads.since = Some(now);
            waited + present
        })
    }

    fn begin(&self) {
        self.with(|reads| reads.since = Some(Instant::now()));
    }

    fn end(&self) {
        self.with(|reads| {
            let waited = reads.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            if waited >= LONG_READ {
                reads.waited += waited;
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Reads) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct Counted<I> {
    input: I,
    owed: Owed,
}

impl<I: Input> Input for Counted<I> {
    fn size_bytes(&self) -> u64 {
        self.input.size_bytes()
    }

    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        self.owed.begin();
        let read = self.input.read(offset, length).await;
        self.owed.end();
        read
    }
}
