//! The leases that this worker holds, as far as it knows, and the switch that stops each attempt.
//! Time here is the monotonic clock, and only ever used to give up earlier than the database would take a lease away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::db::Kept;
use crate::job::{JobId, Lease};
use crate::metrics::{self, AttemptStop};

/// Why an attempt must stop. The first reason stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The row names another attempt.
    LeaseLost,
    /// No heartbeat got through: soon nobody can say that the row still names ours.
    Unrenewed,
    Deadline,
    Shutdown,
}

impl Stop {
    const fn counted(self) -> AttemptStop {
        match self {
            Stop::LeaseLost => AttemptStop::LeaseLost,
            Stop::Unrenewed => AttemptStop::Unrenewed,
            Stop::Deadline => AttemptStop::Deadline,
            Stop::Shutdown => AttemptStop::Shutdown,
        }
    }
}

/// All leases of one worker.
#[derive(Debug)]
pub(super) struct Held {
    lease: Duration,
    // By job and attempt: a job that was released may be back before its last attempt is cleared away.
    entries: Mutex<HashMap<(JobId, i32), Entry>>,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    /// When the last statement that renewed the lease was sent: the database's lease ends no earlier than `lease` later.
    renewed_at: Instant,
    switch: Arc<Switch>,
}

#[derive(Debug, Default)]
struct Switch {
    reason: OnceLock<Stop>,
    token: CancellationToken,
}

impl Switch {
    fn stop(&self, reason: Stop) {
        if self.reason.set(reason).is_ok() {
            metrics::STOPS[reason.counted()].add(1);
        }
        self.token.cancel();
    }
}

impl Held {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, entries: Mutex::default() }
    }

    /// How long a lease lasts on the database's clock.
    pub(super) const fn lease(&self) -> Duration {
        self.lease
    }

    /// Notes a lease whose claim was sent at `sent_at`. It is held, and renewed, until the guard is dropped. After an answer
    /// that took nearly as long as the lease it is stopped from the beginning: another worker may run the job already.
    pub(super) fn hold(self: &Arc<Self>, lease: Lease, sent_at: Instant) -> Hold {
        let switch = Arc::new(Switch::default());
        if sent_at.elapsed() >= self.patience() {
            switch.stop(Stop::Unrenewed);
        }
        let entry = Entry { lease, renewed_at: sent_at, switch: Arc::clone(&switch) };
        self.entries().insert((lease.job, lease.attempt), entry);
        Hold { held: Arc::clone(self), lease, switch }
    }

    /// Whether an attempt of this job is in hand.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.entries().keys().any(|&(held, _)| held == job)
    }

    pub(super) fn leases(&self) -> Vec<Lease> {
        self.entries().values().map(|entry| entry.lease).collect()
    }

    /// Takes in the answer to a heartbeat for `asked`, sent at `sent_at`: whatever is not in `kept` is lost, and what is
    /// kept without being renewed goes on for as long as its last renewal allows.
    pub(super) fn renewed(&self, asked: &[Lease], kept: &[Kept], sent_at: Instant) {
        let mut entries = self.entries();
        for lease in asked {
            let attempt = (lease.job, lease.attempt);
            let Some(entry) = entries.get_mut(&attempt) else { continue };
            match kept.iter().find(|kept| (kept.job, kept.attempt) == attempt) {
                Some(Kept { renewed: true, .. }) => entry.renewed_at = sent_at,
                Some(Kept { renewed: false, .. }) => {}
                None => entry.switch.stop(Stop::LeaseLost),
            }
        }
    }

    /// Stops the attempts that were found taken away.
    pub(super) fn lost(&self, gone: &[(JobId, i32)]) {
        let entries = self.entries();
        for entry in gone.iter().filter_map(|attempt| entries.get(attempt)) {
            entry.switch.stop(Stop::LeaseLost);
        }
    }

    /// Stops what has not been renewed for four fifths of a lease: soon another worker may run it.
    pub(super) fn stop_unrenewed(&self, now: Instant) {
        let limit = self.patience();
        for entry in self.entries().values() {
            if now.saturating_duration_since(entry.renewed_at) >= limit {
                entry.switch.stop(Stop::Unrenewed);
            }
        }
    }

    /// How long an attempt may go on after its last renewal was sent.
    fn patience(&self) -> Duration {
        self.lease * 4 / 5
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(JobId, i32), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lease in hand. Dropped, also by a panic, it is no longer renewed, and the sweep takes the job back.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    pub(super) lease: Lease,
    switch: Arc<Switch>,
}

impl Hold {
    /// Fires when the attempt must stop.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.switch.token
    }

    pub(super) fn stop(&self, reason: Stop) {
        self.switch.stop(reason);
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.switch.reason.get().copied()
    }

    /// Whether the database may have ended the lease, by the monotonic clock. One lease later if no heartbeat got
    /// through: the sweep was then most likely as cut off from Postgres as we are, and whoever is first there decides
    /// whether the outage is counted as a lost worker.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let leases = if self.stopped() == Some(Stop::Unrenewed) { 2 } else { 1 };
        let limit = self.held.lease * leases;
        self.held
            .entries()
            .get(&(self.lease.job, self.lease.attempt))
            .is_none_or(|entry| now.saturating_duration_since(entry.renewed_at) >= limit)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.entries().remove(&(self.lease.job, self.lease.attempt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::WorkerId;
    use crate::stage::Stage;
    use crate::video::{OwnerId, VideoId};

    fn lease(attempt: i32) -> Lease {
        Lease {
            job: JobId::new(),
            video: VideoId::new(),
            owner: OwnerId::DEFAULT,
            stage: Stage::Transcode,
            attempt,
            worker: WorkerId::new(),
        }
    }

    fn held() -> Arc<Held> {
        Arc::new(Held::new(Duration::from_secs(15)))
    }

    fn kept(hold: &Hold, renewed: bool) -> Kept {
        Kept { job: hold.lease.job, attempt: hold.lease.attempt, renewed }
    }

    #[test]
    fn a_lease_without_renewal_is_given_up_before_it_ends() {
        let (leases, start) = (held(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let hold = leases.hold(lease(1), start);
        assert!(!hold.is_over(second(14)));
        assert!(hold.is_over(second(15)));
        leases.stop_unrenewed(second(11));
        assert_eq!(hold.stopped(), None);
        leases.stop_unrenewed(second(12));
        assert_eq!(hold.stopped(), Some(Stop::Unrenewed));
        assert!(hold.token().is_cancelled());
        assert!(!hold.is_over(second(29)), "it insists longer than its lease");
        assert!(hold.is_over(second(30)));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let (leases, start) = (held(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let hold = leases.hold(lease(1), start);
        leases.renewed(&[hold.lease], &[kept(&hold, true)], second(5));
        leases.renewed(&[hold.lease], &[kept(&hold, false)], second(10));
        leases.stop_unrenewed(second(16));
        assert_eq!(hold.stopped(), None);
        leases.stop_unrenewed(second(17));
        assert_eq!(hold.stopped(), Some(Stop::Unrenewed));
    }

    #[test]
    fn what_a_heartbeat_does_not_confirm_is_lost() {
        let leases = held();
        let first = lease(1);
        let [ours, lost] = [first, lease(1)].map(|lease| leases.hold(lease, Instant::now()));
        // Claimed by us again, before it was known that the row had gone to a later attempt.
        let older = leases.hold(Lease { attempt: 0, ..first }, Instant::now());
        let asked = [ours.lease, lost.lease, older.lease];
        // Claimed after the heartbeat was sent: nobody asked for it.
        let late = leases.hold(lease(1), Instant::now());
        leases.renewed(&asked, &[kept(&ours, true)], Instant::now());
        assert_eq!(
            [&ours, &lost, &older, &late].map(Hold::stopped),
            [None, Some(Stop::LeaseLost), Some(Stop::LeaseLost), None]
        );
    }

    #[test]
    fn clearing_an_old_attempt_away_leaves_the_next_one_in_hand() {
        let leases = held();
        let first = lease(1);
        let old = leases.hold(first, Instant::now());
        let _next = leases.hold(Lease { attempt: 2, ..first }, Instant::now());
        drop(old);
        assert!(leases.has(first.job));
        assert_eq!(leases.leases().len(), 1);
    }

    #[test]
    fn the_first_reason_stays() {
        let hold = held().hold(lease(1), Instant::now());
        hold.stop(Stop::Deadline);
        hold.stop(Stop::Shutdown);
        assert_eq!(hold.stopped(), Some(Stop::Deadline));
    }
}
