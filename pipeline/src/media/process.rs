//! The parent's side: starts the media child in its own process group, reads its messages, ends it at its deadline.
//! It believes nothing that the child says: lengths are checked before they are allocated, nonsense counts as a crash.
//! A crash of ours leaves no child behind: the child's stdin and stdout break, and it asks to die with its parent.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::frames::Frames;
use super::protocol::{Message, Request, write_frame};
use crate::video::FailureCause;

/// A child that says nothing for so long is stuck: it reports progress several times a second.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// How much of the child's stderr is kept for the text of a crash.
const STDERR_TAIL_BYTES: usize = 4 * 1024;
/// How long a killed child may take to be gone. Longer only if the kernel holds it.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// The binary whose subcommand `media-child` is started; normally our own.
    pub program: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The child refused the file and said why.
    #[error("{detail}")]
    Failed { cause: FailureCause, detail: String },
    /// The child died by its own doing.
    #[error("the media child died: {0}")]
    Crashed(String),
    #[error("the media child ran past its deadline of {0:?}")]
    DeadlineExceeded(Duration),
    /// The child was alive and said nothing.
    #[error("the media child was silent for {0:?} and was killed")]
    Stalled(Duration),
    /// It could not be started, or a pipe of ours broke.
    #[error("the media child could not be used: {0}")]
    Io(#[from] io::Error),
}

/// Starts media children.
#[derive(Debug, Clone)]
pub struct Media {
    program: PathBuf,
    silence: Duration,
}

impl Media {
    #[must_use]
    pub fn new(config: MediaConfig) -> Self {
        Self { program: config.program, silence: LONGEST_SILENCE }
    }

    /// How long a child may say nothing before it counts as stuck; 60 s unless changed.
    #[must_use]
    pub fn with_longest_silence(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// Starts a child. Dropping the process kills its whole group.
    pub async fn start(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<MediaProcess, MediaError> {
        let mut frame = Vec::new();
        write_frame(&mut frame, &request, &[])?;

        let mut child = Command::new(&self.program)
            .arg("media-child")
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the child was started without its pipes").into());
        };
        let process = MediaProcess {
            group: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
            child,
            stdout,
            stderr: Some(stderr),
            stderr_tail: Vec::new(),
            frames: Frames::default(),
            deadline,
            ends_at: Instant::now() + deadline,
            longest_silence: self.silence,
            heard_at: None,
            last_said: None,
            finished: false,
        };
        // The request fits the pipe, so this does not wait. A child that is dead already breaks the pipe: its exit
        // status says more than our error, and the first `next` reports it.
        match stdin.write_all(&frame).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(process),
        }
    }
}

/// A running child.
pub struct MediaProcess {
    child: Child,
    /// Same number as the child's id. Signalled only while the child is not reaped, so it names no other group.
    group: Option<Pid>,
    stdout: ChildStdout,
    /// `None` once it has ended.
    stderr: Option<ChildStderr>,
    stderr_tail: Vec<u8>,
    frames: Frames,
    deadline: Duration,
    ends_at: Instant,
    longest_silence: Duration,
    /// When the present wait for a byte began, over several calls of `next` if those were dropped.
    heard_at: Option<Instant>,
    last_said: Option<&'static str>,
    finished: bool,
}

impl MediaProcess {
    /// The next message and its payload; `None` after `Done`. A `Failed` message is returned as the error.
    ///
    /// Safe to drop and call again: a half-read frame stays. After `Done` or an error the group is killed.
    pub async fn next(&mut self) -> Result<Option<(Message, Bytes)>, MediaError> {
        if self.finished {
            return Ok(None);
        }
        let result = self.receive().await;
        if !matches!(&result, Ok(Some((message, _))) if !matches!(message, Message::Done(_))) {
            // Without an await: were this future dropped here, its last word would be lost with it. The runtime
            // reaps the child when this is dropped.
            self.finished = true;
            self.kill_group();
        }
        result
    }

    async fn receive(&mut self) -> Result<Option<(Message, Bytes)>, MediaError> {
        loop {
            match self.frames.take() {
                Ok(None) => {}
                Ok(Some((Message::Failed { cause, detail }, _))) => {
                    return Err(MediaError::Failed { cause, detail });
                }
                Ok(Some((message, payload))) => {
                    self.last_said = Some(name_of(&message));
                    return Ok(Some((message, payload)));
                }
                Err(error) => {
                    return Err(MediaError::Crashed(format!("it spoke nonsense: {error}")));
                }
            }
            if self.read_some().await? == 0 {
                let status = self.end().await;
                return Err(MediaError::Crashed(self.obituary(status)));
            }
        }
    }

    /// Waits for bytes on stdout, and keeps stderr from filling up meanwhile. Zero is the end of stdout.
    async fn read_some(&mut self) -> Result<usize, MediaError> {
        let heard_at = *self.heard_at.get_or_insert_with(Instant::now);
        let silent_at = heard_at + self.longest_silence;
        let read = async {
            loop {
                let mut chunk = [0; 1024];
                tokio::select! {
                    biased;
                    read = self.stdout.read_buf(self.frames.space()) => return read,
                    read = read_optional(self.stderr.as_mut(), &mut chunk) => match read? {
                        0 => self.stderr = None,
                        length => keep_tail(&mut self.stderr_tail, &chunk[..length]),
                    },
                }
            }
        };
        match timeout_at(silent_at.min(self.ends_at), read).await {
            Ok(read) => {
                self.heard_at = None;
                Ok(read?)
            }
            Err(_) if self.ends_at <= silent_at => Err(MediaError::DeadlineExceeded(self.deadline)),
            Err(_) => Err(MediaError::Stalled(self.longest_silence)),
        }
    }

    /// Kills the group and reaps the child. A child that was ending keeps the exit status it had chosen.
    /// Safe to drop and call again: the status is kept, and the end of stderr comes again.
    async fn end(&mut self) -> Option<ExitStatus> {
        self.kill_group();
        let status = timeout(REAP_TIMEOUT, self.child.wait()).await.ok()?.ok();
        // Whatever held stderr open is dead, so its end comes at once.
        while let Some(stderr) = self.stderr.as_mut() {
            let mut chunk = [0; 1024];
            match timeout(REAP_TIMEOUT, stderr.read(&mut chunk)).await {
                Ok(Ok(length)) if length > 0 => {
                    keep_tail(&mut self.stderr_tail, &chunk[..length]);
                }
                _ => self.stderr = None,
            }
        }
        status
    }

    fn kill_group(&self) {
        // `id` is None once the child is reaped: from then on its number may belong to somebody else.
        if let (Some(_), Some(group)) = (self.child.id(), self.group) {
            // Fails only when the group is gone, which is what is wanted.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }

    fn obituary(&self, status: Option<ExitStatus>) -> String {
        let end = status.map_or_else(|| "it could not be reaped".to_owned(), |s| s.to_string());
        let said = self.last_said.unwrap_or("nothing");
        let tail = String::from_utf8_lossy(&self.stderr_tail);
        let tail = tail.trim();
        if tail.is_empty() {
            format!("{end}; the last thing it said was {said}")
        } else {
            format!("{end}; the last thing it said was {said}; stderr ends: {}", Escaped(tail))
        }
    }
}

impl Drop for MediaProcess {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Never resolves when there is nothing to read from.
async fn read_optional(from: Option<&mut ChildStderr>, chunk: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(stderr) => stderr.read(chunk).await,
        None => std::future::pending().await,
    }
}

fn keep_tail(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(more);
    let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
    tail.drain(..excess);
}

/// Text of the child's: control characters cannot reach a terminal or break a log line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\n' => f.write_str(" | ")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// What a message is called in the text of a crash.
const fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Facts(_) => "facts",
        Message::Progress { .. } => "progress",
        Message::Poster { .. } => "poster",
        Message::Init { .. } => "init",
        Message::Segment { .. } => "segment",
        Message::Pcm { .. } => "pcm",
        Message::Frame { .. } => "frame",
        Message::Checked { .. } => "checked",
        Message::Done(_) => "done",
        Message::Failed { .. } => "failed",
    }
}
