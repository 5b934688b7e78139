//! What is left of a child that died: whose doing it was, and the end of its stderr, in words that can be logged and
//! stored.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::time::{Instant, timeout};

use crate::steering::is_steering;

/// How much of the child's stderr is kept for the text of a crash.
const TAIL_BYTES: usize = 4 * 1024;
/// An honest child writes a few lines at most: libav is told to be quiet.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// How long a child that closed its stdout may take to be dead. One that lives on is broken.
const DYING: Duration = Duration::from_secs(1);
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// Whether a child whose stdout is closed ends before we kill it.
#[derive(Debug, Default)]
pub(super) struct Deathbed {
    closed_at: Option<Instant>,
    by_itself: Option<bool>,
}

impl Deathbed {
    /// To be asked before it is killed. Does not reap it. Safe to drop and call again.
    pub(super) async fn ended_by_itself(&mut self, child: Option<Pid>) -> bool {
        if let Some(known) = self.by_itself {
            return known;
        }
        let until = *self.closed_at.get_or_insert_with(Instant::now) + DYING;
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let found = loop {
            match child.map(|child| waitid(WaitId::Pid(child), peek)) {
                Some(Ok(Some(_))) => break true,
                Some(Ok(None)) if Instant::now() < until => tokio::time::sleep(LOOK_PERIOD).await,
                _ => break false,
            }
        };
        *self.by_itself.insert(found)
    }
}

/// Whose doing a death without a last word was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The file's: a bug of libav that it hits, or bytes that took the child over.
    File,
    CpuLimit,
    /// Whoever sent SIGKILL and was not us: mostly the kernel, for want of memory. Its own bound on memory is another
    /// death: what it asks for above that is refused, and it aborts.
    Killer,
    /// Whoever stops all of us, as `systemctl stop` does: the child's handlers are the default ones.
    Stop,
}

impl Blame {
    pub(super) fn of(status: Option<ExitStatus>, by_itself: bool) -> Self {
        // SIGKILL after the look was ours. TERM never is: a child that we ask to end is overdue, and that is its error.
        let Some(signal) = status.and_then(|status| status.signal()) else { return Self::File };
        if signal == Signal::XCPU.as_raw() {
            Self::CpuLimit
        } else if signal == Signal::KILL.as_raw() && by_itself {
            Self::Killer
        } else if [Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw).contains(&signal) {
            Self::Stop
        } else {
            Self::File
        }
    }
}

/// The end of a child's stderr.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    seen: u64,
}

impl Tail {
    pub(super) fn push(&mut self, more: &[u8]) {
        self.seen += more.len() as u64;
        self.bytes.extend_from_slice(more);
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
    }

    /// The rest of it. Safe to drop and call again.
    pub(super) async fn read_to_end(&mut self, stderr: &mut Option<ChildStderr>, limit: Duration) {
        while let Some(open) = stderr.as_mut() {
            let mut chunk = [0; 1024];
            match timeout(limit, open.read(&mut chunk)).await {
                Ok(Ok(length)) if length > 0 => self.push(&chunk[..length]),
                _ => *stderr = None,
            }
        }
    }

    /// Whether it has written more than an honest child ever does.
    pub(super) fn is_flood(&self) -> bool {
        self.seen > MOST_BYTES
    }
}

/// How it ended, for the text of a crash.
pub(super) fn obituary(status: Option<ExitStatus>, last_said: &str, stderr: &Tail) -> String {
    let end = status.map_or_else(|| "it could not be reaped".to_owned(), |s| s.to_string());
    let tail = String::from_utf8_lossy(&stderr.bytes);
    let tail = tail.trim();
    if tail.is_empty() {
        format!("{end}; the last thing it said was {last_said}")
    } else {
        format!("{end}; the last thing it said was {last_said}; stderr ends: {}", Escaped(tail))
    }
}

/// Text of the child's on one line, as a terminal and a log may show it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\n' => f.write_str(" | ")?,
                c if is_steering(c) => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}
