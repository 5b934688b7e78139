//! The child's mouth: messages to the parent, one frame each. It never buffers: a finished segment must not wait.

use std::io::Write;
use std::time::{Duration, Instant};

use super::EngineError;
use super::time::to_ms;
use crate::media::protocol::{Message, write_frame};

const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const MIB: u64 = 1 << 20;

pub(in crate::media) struct Speaker<'a> {
    to: &'a mut (dyn Write + Send),
    said_bytes: u64,
    most_bytes: u64,
    progress_at: Option<Instant>,
}

impl<'a> Speaker<'a> {
    pub(in crate::media) fn new(to: &'a mut (dyn Write + Send)) -> Self {
        Self { to, said_bytes: 0, most_bytes: u64::MAX, progress_at: None }
    }

    /// From now on, no more payload than this.
    pub(super) fn bound(&mut self, most_bytes: u64) {
        self.most_bytes = most_bytes;
    }

    pub(in crate::media) fn say(
        &mut self,
        message: &Message,
        payload: &[u8],
    ) -> Result<(), EngineError> {
        let said_bytes = self.said_bytes + payload.len() as u64;
        if said_bytes > self.most_bytes {
            return Err(EngineError::limit(format!(
                "what is made of it has more than {} MiB, at most so many are accepted",
                self.most_bytes / MIB
            )));
        }
        self.said_bytes = said_bytes;
        write_frame(&mut self.to, message, payload).map_err(EngineError::Pipe)
    }

    /// How far the work is, in microseconds of the source: what keeps the parent from taking this child for stuck.
    /// Said a few times a second, however often it is called.
    pub(super) fn say_progress(&mut self, done_us: i64, total_us: i64) -> Result<(), EngineError> {
        if self.progress_at.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return Ok(());
        }
        self.progress_at = Some(Instant::now());
        let total_us = total_us.max(done_us);
        self.say(&Message::Progress { done_ms: to_ms(done_us), total_ms: to_ms(total_us) }, &[])
    }
}
