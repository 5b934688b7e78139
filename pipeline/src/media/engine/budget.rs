//! What reading one file may take. libav asks between its steps, and every read asks first; when it is spent, reading ends.
//!
//! Opening has a budget of processor time, so that a busy machine refuses no honest file; the whole run ends at the
//! deadline of the request. Decoders and filters never ask: only the parent's kill is a deadline that always holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::EngineError;
use crate::media::protocol::Limits;
use crate::video::FailureCause;

/// An index of hours takes well under a second.
const OPENING: Duration = Duration::from_secs(20);

const OPENS: u8 = 0;
const READS: u8 = 1;
const SPENT_OPENING: u8 = 2;
const SPENT_DEADLINE: u8 = 3;

/// Shared with the callbacks that libav holds.
#[derive(Clone)]
pub(super) struct Budget {
    state: Arc<AtomicU8>,
    began_at: Instant,
    longest: Duration,
    /// Processor time of the thread that opens.
    opens_until: Duration,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            state: Arc::new(AtomicU8::new(OPENS)),
            began_at: Instant::now(),
            longest: Duration::from_millis(limits.max_run_ms),
            opens_until: thread_time() + OPENING,
        }
    }

    /// The file is open: from now on only the deadline counts.
    pub(super) fn opened(&self) {
        self.change(OPENS, READS);
    }

    /// To be asked by the thread that opens and reads.
    pub(super) fn is_spent(&self) -> bool {
        let now = self.state.load(Ordering::Relaxed);
        if self.began_at.elapsed() >= self.longest {
            self.change(now, SPENT_DEADLINE);
        } else if now == OPENS && thread_time() >= self.opens_until {
            self.change(OPENS, SPENT_OPENING);
        }
        self.state.load(Ordering::Relaxed) >= SPENT_OPENING
    }

    /// Why reading ended, if it was for want of time.
    pub(super) fn refusal(&self) -> Option<EngineError> {
        match self.state.load(Ordering::Relaxed) {
            SPENT_OPENING => Some(EngineError::limit(format!(
                "the header alone takes more than {} s to read",
                OPENING.as_secs()
            ))),
            SPENT_DEADLINE => Some(EngineError::refused(
                FailureCause::DeadlineExceeded,
                format!("it was not done after {} s", self.longest.as_secs()),
            )),
            _ => None,
        }
    }

    /// The first reason stays.
    fn change(&self, from: u8, to: u8) {
        if from < SPENT_OPENING {
            self.state
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
                .unwrap_or_default();
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(longest: Duration, opening: Duration) -> Budget {
        let fresh = Budget::new(&Limits::default());
        Budget { longest, opens_until: thread_time() + opening, ..fresh }
    }

    #[test]
    fn opening_has_its_own_budget_and_reading_has_the_deadline() {
        let opened = budget(OPENING, Duration::ZERO);
        opened.opened();
        assert!(!opened.is_spent() && opened.refusal().is_none());
        let cause = |budget: &Budget| match budget.refusal() {
            Some(EngineError::Refused { cause, .. }) => cause,
            other => panic!("{other:?}"),
        };
        let opening = budget(OPENING, Duration::ZERO);
        assert!(opening.is_spent());
        assert_eq!(cause(&opening), FailureCause::LimitExceeded);
        let late = budget(Duration::ZERO, OPENING);
        late.opened();
        assert!(late.is_spent());
        assert_eq!(cause(&late), FailureCause::DeadlineExceeded);
    }

    #[test]
    fn the_first_reason_stays() {
        let mut spent = budget(OPENING, Duration::ZERO);
        assert!(spent.is_spent());
        spent.longest = Duration::ZERO;
        spent.opened();
        assert!(spent.is_spent());
        assert!(spent.refusal().is_some_and(|error| error.to_string().contains("header")));
    }
}
