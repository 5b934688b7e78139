//! What an attempt's end means for its job. Pure: a table from "how did it end, and who stopped it" to one transition.

use std::time::Duration;

use tokio::task::JoinError;

use super::held::Stop;
use crate::db::Strike;
use crate::retry::{
    MAX_CRASHES, MAX_DEADLINES, MAX_FAILURES, MAX_LOST_WORKERS, job_delay, outage_delay,
};
use crate::stages::{Outcome, StageError};
use crate::steering::is_steering;
use crate::video::FailureCause;

/// Longer texts help nobody, and every one is kept for ever.
const MAX_DETAIL_CHARS: usize = 2_000;

/// The one transition that an attempt leads to.
#[derive(Debug)]
pub(super) enum Ending {
    Done(Outcome),
    /// Counted: pending again after the delay, or dead at the `max`-th strike of its kind.
    Retry {
        cause: FailureCause,
        detail: String,
        strike: Strike,
        max: i32,
        delay: Duration,
    },
    Dead {
        cause: FailureCause,
        detail: String,
    },
    /// Pending again, not counted.
    Release {
        detail: String,
        delay: Duration,
    },
    /// The job is not ours any more: nothing may be written.
    Nothing,
}

/// How the attempts before this one ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    pub(super) failures: i32,
    pub(super) crashes: i32,
    /// Not counted: released, lost with their worker, or waiting for an original.
    pub(super) others: i32,
}

impl Ending {
    pub(super) fn of(
        stopped: Option<Stop>,
        ended: Result<Result<Outcome, StageError>, JoinError>,
        past: Past,
    ) -> Self {
        match (stopped, ended) {
            (Some(Stop::LeaseLost), _) => Self::Nothing,
            // Finished in spite of a stop: the work is done, and the commit is fenced.
            (_, Ok(Ok(outcome))) => Self::Done(outcome),
            // What a stage says of its end after it was told to stop is about the stop.
            (Some(Stop::Unrenewed), _) => {
                Self::released("no heartbeat got through", Duration::ZERO)
            }
            (Some(Stop::Shutdown), _) => Self::released("released by a shutdown", Duration::ZERO),
            (Some(Stop::Deadline), _) => Self::Retry {
                cause: FailureCause::DeadlineExceeded,
                detail: "the attempt ran past its deadline".to_owned(),
                strike: Strike::Failure,
                max: MAX_DEADLINES,
                delay: job_delay(past.failures + 1),
            },
            (None, Ok(Err(error))) => Self::of_error(error, past),
            (None, Err(error)) => Self::failed(
                FailureCause::Internal,
                &format!("the stage panicked: {}", panic_text(error)),
                past.failures,
            ),
        }
    }

    fn of_error(error: StageError, past: Past) -> Self {
        match error {
            StageError::Fail { cause, detail } => Self::Dead { cause, detail: storable(&detail) },
            StageError::Retry { cause, detail } => Self::failed(cause, &detail, past.failures),
            StageError::Crashed(detail) => Self::Retry {
                cause: FailureCause::MediaCrashed,
                detail: storable(&detail),
                strike: Strike::Crash,
                max: MAX_CRASHES,
                delay: job_delay(past.crashes + 1),
            },
            StageError::Killed(detail) => Self::Retry {
                cause: FailureCause::WorkerLost,
                detail: storable(&detail),
                strike: Strike::Lost,
                max: MAX_LOST_WORKERS,
                delay: job_delay(past.others + 1),
            },
            StageError::Outage(detail) => Self::released(&detail, outage_delay(past.others)),
            // It keeps its place in the line: by the time there is room here, it is the first again.
            StageError::NoRoom { detail, ours_first: true } => {
                Self::released(&detail, Duration::ZERO)
            }
            StageError::NoRoom { detail, ours_first: false } => {
                Self::released(&detail, outage_delay(past.others))
            }
            StageError::Stopped => Self::released("stopped", Duration::ZERO),
            StageError::LeaseLost => Self::Nothing,
        }
    }

    /// Counted as a failure of the work itself.
    pub(super) fn failed(cause: FailureCause, detail: &str, failures: i32) -> Self {
        Self::Retry {
            cause,
            detail: storable(detail),
            strike: Strike::Failure,
            max: MAX_FAILURES,
            delay: job_delay(failures + 1),
        }
    }

    fn released(detail: &str, delay: Duration) -> Self {
        Self::Release { detail: storable(detail), delay }
    }
}

/// Texts may quote what a file says of itself: Postgres takes no NUL, and a log or terminal nothing that steers it.
fn storable(text: &str) -> String {
    text.chars()
        .map(|c| if is_steering(c) && c != '\n' { ' ' } else { c })
        .take(MAX_DETAIL_CHARS)
        .collect()
}

fn panic_text(error: JoinError) -> String {
    // Nobody aborts a stage that was not told to stop, but then its job must come back all the same.
    let Ok(payload) = error.try_into_panic() else { return "it was aborted".to_owned() };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "without a message".to_owned(), |text| (*text).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCK: Past = Past { failures: 4, crashes: 2, others: 3 };

    fn original() -> Outcome {
        Outcome::Original { sha256: None }
    }

    fn retry() -> StageError {
        StageError::Retry { cause: FailureCause::Corrupt, detail: "bad byte".into() }
    }

    async fn panicked(with: impl FnOnce() + Send + 'static) -> JoinError {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async { with() });
        tasks.join_next().await.expect("one task").expect_err("a panic")
    }

    #[test]
    fn after_the_lease_is_lost_nothing_is_written_not_even_a_result() {
        for ended in [Ok(original()), Err(retry()), Err(StageError::Stopped)] {
            let ending = Ending::of(Some(Stop::LeaseLost), Ok(ended), Past::default());
            assert!(matches!(ending, Ending::Nothing), "{ending:?}");
        }
        let ending = Ending::of(None, Ok(Err(StageError::LeaseLost)), Past::default());
        assert!(matches!(ending, Ending::Nothing));
    }

    #[test]
    fn a_result_in_spite_of_a_stop_counts() {
        for stop in [None, Some(Stop::Shutdown), Some(Stop::Deadline), Some(Stop::Unrenewed)] {
            assert!(matches!(
                Ending::of(stop, Ok(Ok(original())), Past::default()),
                Ending::Done(_)
            ));
        }
    }

    #[test]
    fn a_shutdown_or_an_outage_of_postgres_counts_nothing_whatever_the_stage_says_of_its_end() {
        for stop in [Stop::Shutdown, Stop::Unrenewed] {
            for error in [retry(), StageError::Crashed("signal 9".into()), StageError::Stopped] {
                let ending = Ending::of(Some(stop), Ok(Err(error)), STRUCK);
                assert!(
                    matches!(ending, Ending::Release { delay: Duration::ZERO, .. }),
                    "{ending:?}"
                );
            }
        }
    }

    #[test]
    fn an_outage_is_not_counted_and_waits() {
        let ending = Ending::of(None, Ok(Err(StageError::Outage("MinIO is away".into()))), STRUCK);
        let Ending::Release { detail, delay } = ending else { panic!("{ending:?}") };
        assert_eq!(detail, "MinIO is away");
        assert!(delay >= Duration::from_secs(1));
    }

    #[test]
    fn without_room_on_scratch_nothing_is_counted_and_only_for_others_it_waits_apart() {
        for ours_first in [true, false] {
            let error = StageError::NoRoom { detail: "full".into(), ours_first };
            let ending = Ending::of(None, Ok(Err(error)), STRUCK);
            let Ending::Release { detail, delay } = ending else { panic!("{ending:?}") };
            assert_eq!((detail.as_str(), delay.is_zero()), ("full", ours_first));
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_count() {
        let max_of = |stopped, error| match Ending::of(stopped, Ok(Err(error)), Past::default()) {
            Ending::Retry { strike, max, .. } => (strike, max),
            other => panic!("{other:?}"),
        };
        assert_eq!(max_of(None, retry()), (Strike::Failure, 5));
        assert_eq!(max_of(None, StageError::Crashed("signal 11".into())), (Strike::Crash, 3));
        assert_eq!(
            max_of(None, StageError::Killed("signal 9".into())),
            (Strike::Lost, MAX_LOST_WORKERS)
        );
        assert_eq!(max_of(Some(Stop::Deadline), StageError::Stopped), (Strike::Failure, 2));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_message() {
        for (error, says) in [
            (panicked(|| panic!("index {}", 7)).await, "index 7"),
            (panicked(|| panic!("plain")).await, "plain"),
            (panicked(|| std::panic::panic_any(7)).await, "without a message"),
        ] {
            let ending = Ending::of(None, Err(error), Past::default());
            let Ending::Retry { cause, detail, .. } = ending else { panic!("{ending:?}") };
            assert_eq!(cause, FailureCause::Internal);
            assert!(detail.contains(says), "{detail}");
        }
    }

    #[test]
    fn what_a_file_says_of_itself_is_made_storable() {
        assert_eq!(storable("a\0b\u{1b}[31mc\nd"), "a b [31mc\nd");
        assert_eq!(storable(&"ü".repeat(5_000)).chars().count(), MAX_DETAIL_CHARS);
    }
}
