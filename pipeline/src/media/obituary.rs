//! What is left of a child that died: the end of its stderr, in words that can be logged and stored.

use std::fmt;
use std::process::ExitStatus;

use crate::steering::is_steering;

/// How much of the child's stderr is kept for the text of a crash.
const TAIL_BYTES: usize = 4 * 1024;
/// An honest child writes a few lines at most: libav is told to be quiet.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

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
