//! When a child must end: its deadline, which the facts of the source can only bring nearer, and whether its work advances.
//!
//! Saying something is not progress: a child that repeats itself stands still. Time in which nobody listened does not
//! count against it, because it may have waited for its parent all the while.

use std::time::Duration;

use tokio::time::Instant;

use super::cost;
use super::process::MediaError;
use super::protocol::{Message, Request, Task};
use crate::video::MediaFacts;

/// Why a child is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Deadline(Duration),
    Stalled(Duration),
}

impl From<Overdue> for MediaError {
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::Deadline(after) => MediaError::DeadlineExceeded(after),
            Overdue::Stalled(after) => MediaError::Stalled(after),
        }
    }
}

pub(super) struct Watch {
    task: Task,
    max_frame_rate: u32,
    /// However much work there is, and whoever waits for whom.
    deadline: Duration,
    ends_at: Instant,
    /// What the work may take by the facts that are known so far.
    expected: Option<Duration>,
    longest_stall: Duration,
    /// Time in which somebody listened: in all, and since the last progress.
    listened: Duration,
    still: Duration,
    facts: Option<MediaFacts>,
    done_ms: u64,
}

impl Watch {
    pub(super) fn new(request: &Request, deadline: Duration) -> Self {
        Self {
            task: request.task.clone(),
            max_frame_rate: request.limits.max_frame_rate,
            deadline,
            ends_at: Instant::now() + deadline,
            expected: None,
            longest_stall: Duration::from_millis(request.limits.max_stall_ms),
            listened: Duration::ZERO,
            still: Duration::ZERO,
            facts: None,
            done_ms: 0,
        }
    }

    /// Takes note of a whole message.
    pub(super) fn heard(&mut self, message: &Message) {
        if self.advances(message) {
            self.still = Duration::ZERO;
        }
    }

    fn advances(&mut self, message: &Message) -> bool {
        match message {
            Message::Facts(facts) => {
                let first = self.facts.is_none();
                self.facts = Some(facts.clone());
                self.expect();
                first
            }
            Message::Progress { done_ms, .. } => {
                let further = *done_ms > self.done_ms;
                self.done_ms = self.done_ms.max(*done_ms);
                self.expect();
                further
            }
            Message::Caged(_)
            | Message::Poster { .. }
            | Message::Init { .. }
            | Message::Segment { .. }
            | Message::Pcm { .. }
            | Message::Frame { .. }
            | Message::Checked { .. }
            | Message::Done(_)
            | Message::Failed { .. } => true,
        }
    }

    /// A source that goes on past its declared end gets the time for what there is.
    fn expect(&mut self) {
        self.expected = self.facts.as_ref().filter(|facts| facts.duration_ms > 0).map(|facts| {
            let duration_ms = facts.duration_ms.max(self.done_ms);
            let facts = MediaFacts { duration_ms, ..facts.clone() };
            cost::longest(&self.task, &facts, self.max_frame_rate)
        });
    }

    /// It ended itself at the deadline that it was given.
    pub(super) fn at_deadline(&self) -> Overdue {
        Overdue::Deadline(self.deadline)
    }

    /// Until when somebody who listens from now on should, and what the child is if nothing comes.
    fn until(&self, now: Instant) -> (Instant, Overdue) {
        let stalls_at = now + self.longest_stall.saturating_sub(self.still);
        // Only what is less than the deadline: an expectation can be more than an instant can hold.
        let (at, overdue) = match self.expected.filter(|expected| *expected < self.deadline) {
            Some(expected) => {
                let spent_at = now + expected.saturating_sub(self.listened);
                (spent_at.min(self.ends_at), Overdue::Deadline(expected))
            }
            None => (self.ends_at, Overdue::Deadline(self.deadline)),
        };
        if at <= stalls_at {
            (at, overdue)
        } else {
            (stalls_at, Overdue::Stalled(self.longest_stall))
        }
    }

    /// Time that was not the child's.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.still = self.still.saturating_sub(time);
        self.listened = self.listened.saturating_sub(time);
    }

    fn listened_for(&mut self, time: Duration) {
        self.listened += time;
        self.still += time;
    }

    /// From now until the returned value is dropped, somebody listens.
    pub(super) fn listen(&mut self) -> Listening<'_> {
        Listening { since: Instant::now(), watch: self }
    }
}

pub(super) struct Listening<'a> {
    watch: &'a mut Watch,
    since: Instant,
}

impl Listening<'_> {
    /// Until when, and what the child is if nothing comes.
    pub(super) fn until(&self) -> (Instant, Overdue) {
        self.watch.until(self.since)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.watch.listened_for(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::protocol::Limits;
    use crate::video::VideoFacts;

    const HOUR: Duration = Duration::from_hours(1);

    fn watch() -> Watch {
        let request = Request { limits: Limits::default(), task: Task::Transcode };
        Watch::new(&request, HOUR)
    }

    fn progress(done_ms: u64) -> Message {
        Message::Progress { done_ms, total_ms: 100_000 }
    }

    fn facts(duration_ms: u64) -> Message {
        Message::Facts(MediaFacts {
            container: "mov".into(),
            duration_ms,
            video: Some(VideoFacts {
                codec: "h264".into(),
                width: 320,
                height: 240,
                frame_rate: 25.0,
                rotation: 0,
                pixel_format: "yuv420p".into(),
            }),
            audio: None,
        })
    }

    /// Seconds from `now`, and why.
    fn left(watch: &Watch, now: Instant) -> (u64, Overdue) {
        let (at, overdue) = watch.until(now);
        ((at - now).as_secs(), overdue)
    }

    /// What a child gets that goes on making progress.
    fn given(watch: &mut Watch) -> Duration {
        let begun = Instant::now();
        let mut now = begun;
        while let (_, Overdue::Stalled(_)) = watch.until(now) {
            watch.listened_for(Duration::from_secs(30));
            watch.still = Duration::ZERO;
            now += Duration::from_secs(30);
        }
        now - begun
    }

    const STALLED: Overdue = Overdue::Stalled(Duration::from_mins(1));

    #[test]
    fn the_same_progress_again_is_none() {
        let mut watch = watch();
        watch.heard(&progress(5));
        for _ in 0..50 {
            watch.listened_for(Duration::from_secs(1));
            watch.heard(&progress(5));
        }
        let now = Instant::now();
        assert_eq!(left(&watch, now), (10, STALLED));
        watch.heard(&progress(6));
        assert_eq!(left(&watch, now), (60, STALLED));
    }

    #[test]
    fn time_in_which_nobody_listened_is_not_the_childs() {
        let mut watch = watch();
        watch.listened_for(Duration::from_secs(20));
        let later = Instant::now() + Duration::from_mins(10);
        assert_eq!(left(&watch, later), (40, STALLED));
    }

    #[test]
    fn facts_bring_the_deadline_nearer_and_never_push_it_out() {
        let minutes = |facts: Message| {
            let mut watch = watch();
            watch.heard(&facts);
            given(&mut watch).as_secs() / 60
        };
        assert!(minutes(facts(10_000)) < 30);
        assert_eq!(minutes(facts(u64::MAX / 2)), 59);
        assert_eq!(minutes(facts(0)), 59, "a source that does not say how long it is");
    }

    #[test]
    fn a_source_that_is_longer_than_it_says_gets_time_for_what_there_is() {
        let (mut declared, mut longer) = (watch(), watch());
        declared.heard(&facts(10_000));
        longer.heard(&facts(10_000));
        longer.heard(&progress(600_000));
        assert!(longer.expected > declared.expected);
    }

    #[test]
    fn the_deadline_counts_whoever_waits_for_whom() {
        let watch = watch();
        let late = watch.ends_at - Duration::from_secs(10);
        assert_eq!(left(&watch, late), (10, Overdue::Deadline(HOUR)));
    }
}
