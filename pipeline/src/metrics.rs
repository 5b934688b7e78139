//! What this process counts while it works, for whoever scrapes it. Process-wide, as the log is, so that no room has to
//! hand it to the next. Pure: atomics and nothing else; rows are counted by Postgres, and the daemon renders both.

use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::stage::Stage;

/// From its due time to its claim.
pub static JOB_WAITS: PerStage<Seconds> = PerStage([const { Seconds::new() }; Stage::ALL.len()]);
/// From its claim to the answer to its last statement.
pub static JOB_RUNS: PerStage<Seconds> = PerStage([const { Seconds::new() }; Stage::ALL.len()]);
pub static ATTEMPTS: PerStage<PerKind<AttemptEnd, 8>> =
    PerStage([const { PerKind::new() }; Stage::ALL.len()]);
/// Ids that led to no claim: old, doubled, or of a paused queue.
pub static EMPTY_CLAIMS: PerStage<Counter> = PerStage([const { Counter::new() }; Stage::ALL.len()]);
/// Ids that were missing in Redis and are pushed again.
pub static REDISPATCHED: PerStage<Counter> = PerStage([const { Counter::new() }; Stage::ALL.len()]);
/// Ids that went back from the list of a dead worker.
pub static REAPED: PerStage<Counter> = PerStage([const { Counter::new() }; Stage::ALL.len()]);
/// Leases and deadlines that ran out, found by the sweep.
pub static EXPIRED_LEASES: Counter = Counter::new();
/// Sources and sounds that scratch had no room for.
pub static SCRATCH_REFUSALS: Counter = Counter::new();
/// Uploads that no event announced.
pub static RECONCILED: Counter = Counter::new();
pub static CHILD_ENDS: PerKind<ChildEnd, 5> = PerKind::new();
/// Attempts that were stopped from outside, their media child killed.
pub static STOPS: PerKind<AttemptStop, 4> = PerKind::new();

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    Done,
    /// Counted, and there will be another try.
    Retried,
    Dead,
    /// Not counted: a shutdown or an outage.
    Released,
    /// A duplicate that waits for its original.
    Waiting,
    /// Refused: the row names another attempt, or an operator cancelled it. Nothing was changed.
    Stale,
    /// Postgres did not answer until the lease was over.
    Unknown,
    /// Postgres refused the commit: a defect. The failure that is committed instead counts as well.
    Refused,
}

/// Why a media child did not end by itself, well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// It died by its own doing.
    Crashed,
    /// Killed, and not by us.
    Killed,
    /// Killed: it said nothing for too long.
    Stalled,
    /// Killed: it ran past its deadline.
    Deadline,
    /// It could not be started or spoken to.
    Broken,
}

/// Why an attempt was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStop {
    /// The row names another attempt, or an operator cancelled it.
    LeaseLost,
    /// No heartbeat got through.
    Unrenewed,
    Deadline,
    Shutdown,
}

/// A closed set of kinds, each with its place and its name.
pub trait Kind: Copy + Sized + 'static {
    const ALL: &'static [Self];
    fn index(self) -> usize;
    fn as_str(self) -> &'static str;
}

impl Kind for AttemptEnd {
    const ALL: &'static [Self] = &[
        Self::Done,
        Self::Retried,
        Self::Dead,
        Self::Released,
        Self::Waiting,
        Self::Stale,
        Self::Unknown,
        Self::Refused,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Dead => "dead",
            Self::Released => "released",
            Self::Waiting => "waiting",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

impl Kind for ChildEnd {
    const ALL: &'static [Self] =
        &[Self::Crashed, Self::Killed, Self::Stalled, Self::Deadline, Self::Broken];

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Killed => "killed",
            Self::Stalled => "stalled",
            Self::Deadline => "deadline",
            Self::Broken => "broken",
        }
    }
}

impl Kind for AttemptStop {
    const ALL: &'static [Self] =
        &[Self::LeaseLost, Self::Unrenewed, Self::Deadline, Self::Shutdown];

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::LeaseLost => "lease_lost",
            Self::Unrenewed => "unrenewed",
            Self::Deadline => "deadline",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Only grows, until the process ends.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    #[expect(clippy::new_without_default, reason = "only statics are made of it, by a const")]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value for each stage.
#[derive(Debug)]
pub struct PerStage<T>([T; Stage::ALL.len()]);

impl<T> Index<Stage> for PerStage<T> {
    type Output = T;

    fn index(&self, stage: Stage) -> &T {
        &self.0[usize::from(stage.number() - 1)]
    }
}

/// A counter for each kind.
#[derive(Debug)]
pub struct PerKind<K, const N: usize> {
    counters: [Counter; N],
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind, const N: usize> PerKind<K, N> {
    #[expect(clippy::new_without_default, reason = "only statics are made of it, by a const")]
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(K::ALL.len() == N, "a place for each kind") };
        Self { counters: [const { Counter::new() }; N], kind: std::marker::PhantomData }
    }
}

impl<K: Kind, const N: usize> Index<K> for PerKind<K, N> {
    type Output = Counter;

    fn index(&self, kind: K) -> &Counter {
        &self.counters[kind.index()]
    }
}

/// Durations, sorted into buckets.
#[derive(Debug)]
pub struct Seconds {
    /// One for each bound, and one for what lies above all.
    buckets: [Counter; Seconds::BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Seconds {
    /// From a claim at once to the longest deadline of a stage.
    pub const BOUNDS: [f64; 13] =
        [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0];

    #[expect(clippy::new_without_default, reason = "only statics are made of it, by a const")]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { Counter::new() }; Self::BOUNDS.len() + 1],
            sum_us: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = Self::BOUNDS.iter().take_while(|&&bound| seconds > bound).count();
        self.buckets[bucket].add(1);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many lie in each bucket, not cumulated, the last without a bound.
    #[must_use]
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// All durations together, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let seconds = Seconds::new();
        for ms in [100, 101, 5_000_000] {
            seconds.observe(Duration::from_millis(ms));
        }
        let counts = seconds.counts();
        assert_eq!((counts[0], counts[1], counts[13]), (1, 1, 1));
        assert!((seconds.sum() - 5_000.201).abs() < 1e-9, "{}", seconds.sum());
    }

    #[test]
    fn each_kind_has_a_counter_of_its_own() {
        let counters: PerKind<ChildEnd, 5> = PerKind::new();
        for (times, &kind) in ChildEnd::ALL.iter().enumerate() {
            counters[kind].add(times + 1);
        }
        let counted: Vec<u64> = ChildEnd::ALL.iter().map(|&kind| counters[kind].get()).collect();
        assert_eq!(counted, [1, 2, 3, 4, 5]);
        assert_eq!(
            AttemptEnd::ALL.iter().map(|&kind| kind.index()).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
    }
}
