//! The end of a process, as an object: one soft stop, one hard stop, and a last deadline.
//!
//! The only owner of signals. Soft: nothing new is begun. Hard: what runs is cut off, and repaired by the next start.
//! `hard` is the parent of `soft`, so whoever watches the soft one sees both.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long the work may take to end once it was cut off.
const AFTER_CUT: Duration = Duration::from_secs(15);

/// A second signal this soon after the first is the same one.
const ECHO: Duration = Duration::from_millis(500);

/// Shared by everything that runs. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    hard: CancellationToken,
    soft: CancellationToken,
    after_cut: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let hard = CancellationToken::new();
        Self { soft: hard.child_token(), hard, after_cut: AFTER_CUT }
    }
}

/// The work did not end, even when it was cut off.
#[derive(Debug, thiserror::Error)]
#[error(
    "it did not stop within {0:?} of being cut off; what was running is taken up again after its lease"
)]
pub struct Overdue(Duration);

impl Lifecycle {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when nothing new may be begun.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Fires when everything must end at once.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    pub fn stop(&self) {
        self.soft.cancel();
    }

    pub fn stop_hard(&self) {
        self.hard.cancel();
    }

    /// Runs the work to its end. The first signal asks it to end, a second one cuts it off, and so does `patience`
    /// after the first; past the last deadline it is dropped.
    pub async fn shepherd<T>(
        &self,
        mut signals: Signals,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Overdue> {
        let overdue = async {
            self.soft.cancelled().await;
            tokio::select! {
                () = tokio::time::sleep(patience) => {
                    tracing::warn!("still running {patience:?} after the stop: cut off");
                    self.stop_hard();
                }
                () = self.hard.cancelled() => {}
            }
            tokio::time::sleep(self.after_cut).await;
        };
        let listen = async {
            let name = signals.next().await;
            tracing::info!(signal = name, "stopping; a second signal cuts off what runs");
            self.stop();
            // One key press comes twice through wrappers that pass signals on to their group and to their child.
            let echo = tokio::time::sleep(ECHO);
            tokio::pin!(echo);
            loop {
                tokio::select! {
                    _ = signals.next() => {}
                    () = &mut echo => break,
                }
            }
            let name = signals.next().await;
            tracing::warn!(signal = name, "cutting off what runs");
            self.stop_hard();
            pending::<()>().await;
        };
        tokio::select! {
            result = work => Ok(result),
            () = overdue => Err(Overdue(self.after_cut)),
            () = listen => Err(Overdue(self.after_cut)),
        }
    }
}

/// The signals that mean "stop", caught from the moment this exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_stop_is_a_soft_stop_too() {
        let lifecycle = Lifecycle::new();
        lifecycle.stop();
        assert!(lifecycle.soft().is_cancelled() && !lifecycle.hard().is_cancelled());
        let lifecycle = Lifecycle::new();
        lifecycle.stop_hard();
        assert!(lifecycle.soft().is_cancelled());
    }

    #[tokio::test]
    async fn work_that_ignores_the_stop_is_cut_off_and_then_dropped() {
        let soon = Duration::from_millis(10);
        let lifecycle = Lifecycle { after_cut: soon, ..Lifecycle::new() };
        let signals = Signals::catch().expect("signals");
        lifecycle.stop();
        let hard = lifecycle.hard();
        let outcome = lifecycle.shepherd(signals, soon, pending::<()>()).await;
        assert!(hard.is_cancelled());
        assert!(outcome.is_err());
    }

    #[tokio::test]
    async fn work_that_ends_after_the_cut_is_not_overdue() {
        let lifecycle = Lifecycle::new();
        let signals = Signals::catch().expect("signals");
        lifecycle.stop();
        let hard = lifecycle.hard();
        let outcome = lifecycle
            .shepherd(signals, Duration::from_millis(10), async { hard.cancelled().await })
            .await;
        assert!(outcome.is_ok());
    }
}
