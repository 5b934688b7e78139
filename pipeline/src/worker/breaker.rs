//! The circuit breaker before storage. Every attempt needs MinIO, so while it is away each claim would only burn an
//! attempt: the breaker stops the claims, and lets one cheap question through from time to time. Pure: it is told what
//! happened and when, and says what may be done.
//!
//! Postgres and Redis need none. Without them nothing can be claimed or pulled at all, so the pull and the claim are
//! their own questions; `retry::Outage` says how often.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::retry::Backoff;

/// So many attempts in a row that end for want of a dependency are a reason to ask.
const IN_A_ROW: usize = 5;
/// Or half of so many: some calls get through to a MinIO that is half dead.
const RECENT: usize = 20;

/// What a puller may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// Claim.
    Free,
    /// Ask storage, then tell `answered`. Only one of the pullers is told so; should it never tell, the next is told so
    /// when the time of the question is over.
    Ask,
    /// Nothing, for so long.
    Wait(Duration),
}

#[derive(Debug)]
pub(super) struct Breaker {
    /// Longest that one question may take.
    question: Duration,
    /// How the last attempts ended: true for one that wanted a dependency.
    recent: VecDeque<bool>,
    /// When the next question may be put, while storage is in doubt or known to be away.
    ask_at: Option<Instant>,
    /// Whether the last question found it away.
    open: bool,
    pauses: Backoff,
}

impl Breaker {
    pub(super) fn new(question: Duration) -> Self {
        Self {
            question,
            recent: VecDeque::with_capacity(RECENT),
            ask_at: None,
            open: false,
            pauses: Backoff::new(),
        }
    }

    /// An attempt ended. One that ran into an outage of something does not yet say that it was storage: after some of
    /// them it is asked. The answer, not the attempts, opens the breaker.
    pub(super) fn attempted(&mut self, outage: bool, now: Instant) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(outage);
        let in_a_row = self.recent.iter().rev().take_while(|outage| **outage).count();
        let all = self.recent.iter().filter(|outage| **outage).count();
        if self.ask_at.is_none() && (in_a_row >= IN_A_ROW || all * 2 >= RECENT) {
            self.ask_at = Some(now);
        }
    }

    pub(super) fn passage(&mut self, now: Instant) -> Passage {
        match self.ask_at {
            None => Passage::Free,
            Some(at) if at <= now => {
                self.ask_at = Some(now + self.question);
                Passage::Ask
            }
            Some(at) => Passage::Wait(at - now),
        }
    }

    /// Whether storage is in doubt or away.
    pub(super) fn is_shut(&self) -> bool {
        self.ask_at.is_some()
    }

    /// What came of the question. `Some(true)`: storage went away; `Some(false)`: it is back; worth a line in the log.
    pub(super) fn answered(&mut self, there: bool, now: Instant) -> Option<bool> {
        let was_open = std::mem::replace(&mut self.open, !there);
        if there {
            self.recent.clear();
            self.pauses.reset();
            self.ask_at = None;
        } else {
            let pause = self.pauses.next().unwrap_or(self.question);
            self.ask_at = Some(now + pause);
        }
        (was_open != self.open).then_some(self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Duration = Duration::from_secs(2);

    /// Puts a breaker through attempts, `x` for an outage and `.` for any other end; whether it asks afterwards.
    fn asks_after(attempts: &str) -> bool {
        let mut breaker = Breaker::new(QUESTION);
        let now = Instant::now();
        for attempt in attempts.chars() {
            breaker.attempted(attempt == 'x', now);
        }
        breaker.passage(now) == Passage::Ask
    }

    #[test]
    fn five_in_a_row_or_half_of_twenty_are_a_reason_to_ask() {
        for (attempts, asks) in [
            ("", false),
            ("xxxx", false),
            ("xxxxx", true),
            ("xxxx.xxxx", false),
            ("x.x.x.x.x.x.x.x.x.", false),
            ("x.x.x.x.x.x.x.x.x.x.", true),
            ("xxxx....................xxxx", false),
        ] {
            assert_eq!(asks_after(attempts), asks, "{attempts}");
        }
    }

    /// One that has been told of five outages.
    fn in_doubt(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(QUESTION);
        for _ in 0..5 {
            breaker.attempted(true, now);
        }
        breaker
    }

    #[test]
    fn one_puller_asks_and_the_others_wait() {
        let now = Instant::now();
        let mut breaker = in_doubt(now);
        assert_eq!(breaker.passage(now), Passage::Ask);
        assert_eq!(breaker.passage(now), Passage::Wait(QUESTION));
        assert_eq!(breaker.passage(now + QUESTION), Passage::Ask, "the first was never heard of");
    }

    #[test]
    fn storage_that_answers_was_not_the_reason() {
        let now = Instant::now();
        let mut breaker = in_doubt(now);
        breaker.passage(now);
        assert_eq!(breaker.answered(true, now), None, "nothing to tell");
        assert_eq!(breaker.passage(now), Passage::Free);
        for _ in 0..4 {
            breaker.attempted(true, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free, "it counts from the beginning");
    }

    #[test]
    fn storage_that_is_away_is_asked_again_within_seconds_and_told_of_once() {
        let mut now = Instant::now();
        let mut breaker = in_doubt(now);
        let mut told = Vec::new();
        for there in [false, false, false, true] {
            assert_eq!(breaker.passage(now), Passage::Ask);
            told.push(breaker.answered(there, now));
            if let Passage::Wait(pause) = breaker.passage(now) {
                assert!(!pause.is_zero() && pause <= Duration::from_secs(5), "{pause:?}");
                now += pause;
            }
        }
        assert_eq!(told, [Some(true), None, None, Some(false)]);
        assert_eq!(breaker.passage(now), Passage::Free);
    }

    #[test]
    fn attempts_that_end_while_it_is_open_change_nothing() {
        let now = Instant::now();
        let mut breaker = in_doubt(now);
        breaker.passage(now);
        breaker.answered(false, now);
        let Passage::Wait(before) = breaker.passage(now) else { panic!("it is open") };
        breaker.attempted(true, now);
        breaker.attempted(false, now);
        assert_eq!(breaker.passage(now), Passage::Wait(before));
    }
}
