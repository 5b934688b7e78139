//! Back-off with full jitter: for jobs, for reconnects, for short calls. Pure: it says how long to wait, callers wait.
//! The only file that knows the crate `backoff`.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// How often a job may fail for a reason of the work itself before it is dead.
pub const MAX_FAILURES: i32 = 5;
/// How often the media child may die on a job before it is dead.
pub const MAX_CRASHES: i32 = 3;
/// How often a job may run into its deadline: a second time costs as much as the first, a third tells nothing more.
pub const MAX_DEADLINES: i32 = 2;
/// How often workers may be lost on a job before it is dead. Higher than the others: machines die for their own reasons.
pub const MAX_LOST_WORKERS: i32 = 20;

const JOB_BASE: Duration = Duration::from_secs(2);
const JOB_CAP: Duration = Duration::from_mins(10);
const OUTAGE_CAP: Duration = Duration::from_secs(29);
const CALL_BASE: Duration = Duration::from_millis(50);
const CALL_CAP: Duration = Duration::from_secs(5);

/// How long a job waits after its `failures`-th failure: anything up to 2 s x 2^(failures - 1), at most 10 minutes.
#[must_use]
pub fn job_delay(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    jitter(JOB_BASE.saturating_mul(1 << doublings).min(JOB_CAP))
}

/// How long a job waits for a dependency that is away, so that a whole fleet does not come back at once: 1 to 3 s after
/// the first time, so that it is there when a short outage ends, and up to 30 s from the fifth on.
#[must_use]
pub fn outage_delay(earlier: i32) -> Duration {
    let doublings = u32::try_from(earlier).unwrap_or(0).min(16);
    let most = JOB_BASE.saturating_mul(1 << doublings).min(OUTAGE_CAP);
    Duration::from_secs(1) + jitter(most)
}

/// Anything from nothing to `most`.
fn jitter(most: Duration) -> Duration {
    full_jitter(most, most).next_backoff().unwrap_or(most).min(most)
}

/// A factor of 1 around half of the interval makes the range 0 to the whole interval: full jitter.
fn full_jitter(first: Duration, cap: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first / 2)
        .with_max_interval(cap / 2)
        .with_multiplier(2.0)
        .with_randomization_factor(1.0)
        .with_max_elapsed_time(None)
        .build()
}

/// Growing delays without end, for something that must come back: 50 ms, doubling, at most 5 s, with full jitter.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    #[must_use]
    pub fn new() -> Self {
        Self(full_jitter(CALL_BASE, CALL_CAP))
    }

    /// Starts again from the shortest delay.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // A floor keeps a lucky streak of the dice from becoming a busy loop.
        self.0.next_backoff().map(|delay| delay.clamp(Duration::from_millis(5), CALL_CAP))
    }
}

/// Whether a dependency answers, as one loop sees it: says when to log (on a change, not per round) and how long to wait.
#[derive(Debug, Default)]
pub struct Outage {
    backoff: Backoff,
    lasting: bool,
}

/// A round failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// The first of this outage: worth a line in the log.
    pub first: bool,
    pub delay: Duration,
}

impl Outage {
    /// A round failed.
    pub fn failed(&mut self) -> Setback {
        let first = !std::mem::replace(&mut self.lasting, true);
        Setback { first, delay: self.backoff.next().unwrap_or(CALL_CAP) }
    }

    /// A round worked. `true` if it ends an outage: worth a line in the log.
    pub fn worked(&mut self) -> bool {
        self.backoff.reset();
        std::mem::replace(&mut self.lasting, false)
    }
}

/// Repeats a short, repeatable call up to `tries` times while `again` says that another try may help.
/// `sleep` is the caller's, so that this file stays pure and its tests take no time.
pub async fn retry_call<T, E, C, S>(
    tries: usize,
    again: impl Fn(&E) -> bool,
    mut sleep: impl FnMut(Duration) -> S,
    mut call: impl FnMut() -> C,
) -> Result<T, E>
where
    C: Future<Output = Result<T, E>>,
    S: Future<Output = ()>,
{
    let mut delays = Backoff::new().take(tries.saturating_sub(1));
    loop {
        match call().await {
            Err(error) if again(&error) => match delays.next() {
                Some(delay) => sleep(delay).await,
                None => return Err(error),
            },
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(of: impl Fn() -> Duration) -> Duration {
        (0..500).map(|_| of()).max().expect("500 values")
    }

    #[test]
    fn a_job_waits_longer_after_each_failure_and_never_longer_than_ten_minutes() {
        for (failures, most_s) in [(1, 2), (2, 4), (3, 8), (5, 32), (10, 600), (1_000_000, 600)] {
            let most = Duration::from_secs(most_s);
            let seen = longest(|| job_delay(failures));
            assert!(seen <= most, "{failures} failures waited {seen:?}");
            assert!(seen > most / 2, "{failures} failures never waited longer than {seen:?}");
        }
    }

    #[test]
    fn a_job_without_failures_is_treated_like_one_with_the_first() {
        assert!(longest(|| job_delay(0)) <= JOB_BASE);
        assert!(longest(|| job_delay(-3)) <= JOB_BASE);
    }

    #[test]
    fn job_delays_are_spread_over_the_whole_range() {
        let below_a_quarter = (0..500).filter(|_| job_delay(9) < Duration::from_secs(128)).count();
        assert!((50..250).contains(&below_a_quarter), "{below_a_quarter} of 500");
    }

    #[test]
    fn an_outage_holds_a_job_up_for_seconds_at_first_and_never_for_longer_than_thirty() {
        for (earlier, most_s) in [(-1, 3), (0, 3), (1, 5), (3, 17), (4, 30), (1_000_000, 30)] {
            let most = Duration::from_secs(most_s);
            let seen = longest(|| outage_delay(earlier));
            assert!(seen <= most && seen > most / 2, "{earlier} earlier ones waited {seen:?}");
            assert!((0..500).all(|_| outage_delay(earlier) >= Duration::from_secs(1)));
        }
    }

    #[test]
    fn back_off_grows_to_its_cap_and_starts_again_after_a_reset() {
        let first = |backoff: &mut Backoff| backoff.next().expect("no end");
        let mut backoff = Backoff::new();
        assert!(first(&mut backoff) <= CALL_BASE);
        let late = (0..100).map(|_| first(&mut backoff)).max().expect("100 values");
        assert!(late > CALL_CAP / 2 && late <= CALL_CAP);
        backoff.reset();
        assert!(first(&mut backoff) <= CALL_BASE);
    }

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut outage = Outage::default();
        assert!(!outage.worked());
        assert!(outage.failed().first);
        assert!(!outage.failed().first);
        assert!(outage.worked());
        assert!(!outage.worked());
        assert!(outage.failed().first);
    }

    #[tokio::test]
    async fn a_call_is_repeated_while_another_try_may_help() {
        for (answers, tries, made) in [
            (vec![Err("away"), Err("away"), Ok(7)], 5, 3),
            (vec![Err("wrong"), Ok(7)], 5, 1),
            (vec![Err("away"); 9], 4, 4),
        ] {
            let mut calls = 0;
            let expected = answers[made - 1];
            let answer = retry_call(
                tries,
                |error| *error == "away",
                |_| async {},
                || {
                    calls += 1;
                    std::future::ready(answers[calls - 1])
                },
            )
            .await;
            assert_eq!((answer, calls), (expected, made));
        }
    }
}
