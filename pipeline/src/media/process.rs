//! The parent's side: starts the media child in its own process group, reads its messages, ends it at its deadline.
//! It believes nothing that the child says: `frames` bounds lengths before they are allocated, `conversation` checks what
//! is said, and nonsense counts as a crash. A child that is not caged as it should be is ended before it reads the file.
//! A crash of ours leaves no child behind: the child's stdin and stdout break, and it asks to die with its parent.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::cage::{Level, Sandbox};
use super::conversation::{Conversation, name_of};
use super::cores;
use super::frames::Frames;
use super::input::{Input, InputError};
use super::obituary::{Blame, Deathbed, Escaped, Tail, obituary};
use super::protocol::{Limits, Message, Request, Task};
use super::serving::{Serving, opening};
use super::watch::{Overdue, Watch};
use crate::video::FailureCause;

/// Between asking an overdue child to end and killing it.
const GRACE: Duration = Duration::from_secs(1);
/// A child that is only asked what holds of its cage answers in hundredths of a second.
const PROBE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a killed child may take to be gone. Longer only if the kernel holds it.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// The binary whose subcommand `media-child` is started; normally our own.
    pub program: PathBuf,
    pub limits: Limits,
    /// How much of the cage must hold before a child reads its input.
    pub sandbox: Sandbox,
}

#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The child refused the file and said why.
    #[error("{detail}")]
    Failed { cause: FailureCause, detail: String },
    /// The child died by its own doing.
    #[error("the media child died: {0}")]
    Crashed(String),
    /// Somebody killed it, and it was not us: mostly the kernel, for want of memory on the host.
    #[error("the media child was killed from outside: {0}")]
    Killed(String),
    #[error("the media child ran past its deadline of {0:?}")]
    DeadlineExceeded(Duration),
    /// The child was alive and its work stood still.
    #[error("the media child made no progress for {0:?} and was ended")]
    Stalled(Duration),
    /// The child was fine; its input could not be had.
    #[error(transparent)]
    Input(#[from] InputError),
    /// This machine does not grant the cage that is asked for. No fault of the file, which was not read.
    #[error("media children are not caged here: {0}")]
    Uncaged(String),
    /// It could not be started, a pipe of ours broke, or it was told to end together with us.
    #[error("the media child could not be used: {0}")]
    Io(#[from] io::Error),
}

/// Starts media children.
#[derive(Debug, Clone)]
pub struct Media {
    program: PathBuf,
    limits: Limits,
    sandbox: Sandbox,
}

impl Media {
    #[must_use]
    pub fn new(config: MediaConfig) -> Self {
        Self { program: config.program, limits: config.limits, sandbox: config.sandbox }
    }

    /// What the requests to its children should say.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Starts a child that enters its cage and does nothing else: what holds of it on this machine.
    pub async fn probe(&self) -> Result<Level, MediaError> {
        let nothing = Request { limits: self.limits.clone(), task: Task::CheckSegment };
        let (child, socket) = self.spawn(PROBE_DEADLINE)?;
        let serving = Serving::start(socket, Vec::new(), true);
        self.listen(child, serving, &nothing, PROBE_DEADLINE)?.caged().await
    }

    /// Starts a child that reads this input through us. Dropping the process kills its whole group.
    ///
    /// `deadline` is the longest that it may run; once it has said what the source holds, it is given no more than that
    /// can take.
    pub async fn start(
        &self,
        mut request: Request,
        input: impl Input,
        deadline: Duration,
    ) -> Result<MediaProcess, MediaError> {
        request.limits.max_run_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let opening = opening(&request, input.size_bytes())?;
        let (child, mut socket) = self.spawn(deadline)?;
        // The request fits the socket, so this does not wait. A child that is dead already breaks it: its exit status
        // says more than our error, and the first `next` reports it.
        match socket.write_all(&opening).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        // A segment of our own is all there is to it: there are no facts to find out first.
        let probed = matches!(request.task, Task::CheckSegment);
        self.listen(child, Serving::start(socket, input, probed), &request, deadline)
    }

    fn spawn(&self, deadline: Duration) -> Result<(Child, tokio::net::UnixStream), MediaError> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(ours)?;
        let child = Command::new(&self.program)
            .arg("media-child")
            .args(["--sandbox", self.sandbox.as_str()])
            .args(["--cpu-seconds", &cpu_seconds(deadline).to_string()])
            .env_clear()
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, socket))
    }

    fn listen(
        &self,
        mut child: Child,
        serving: Serving,
        request: &Request,
        deadline: Duration,
    ) -> Result<MediaProcess, MediaError> {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the child was started without its pipes").into());
        };
        Ok(MediaProcess {
            serving,
            group: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
            child,
            stdout,
            stderr: Some(stderr),
            stderr_tail: Tail::default(),
            frames: Frames::default(),
            sandbox: self.sandbox,
            level: None,
            conversation: Conversation::new(request),
            began_at: Instant::now(),
            watch: Watch::new(request, deadline),
            overdue: None,
            asked_at: None,
            last_said: None,
            deathbed: Deathbed::default(),
            finished: false,
        })
    }
}

/// More than all cores can spend before the deadline: it ends a child whose parent is stopped.
fn cpu_seconds(deadline: Duration) -> u64 {
    (deadline.as_secs() + 1).saturating_mul(cores::count() as u64)
}

/// A running child.
pub struct MediaProcess {
    child: Child,
    serving: Serving,
    /// Same number as the child's id. Signalled only while the child is not reaped, so it names no other group.
    group: Option<Pid>,
    stdout: ChildStdout,
    /// `None` once it has ended.
    stderr: Option<ChildStderr>,
    stderr_tail: Tail,
    frames: Frames,
    sandbox: Sandbox,
    /// What it said of its cage; until then nothing else is believed.
    level: Option<Level>,
    conversation: Conversation,
    began_at: Instant,
    watch: Watch,
    /// It is being ended, for this reason.
    overdue: Option<Overdue>,
    /// When it was asked to end.
    asked_at: Option<Instant>,
    last_said: Option<&'static str>,
    deathbed: Deathbed,
    finished: bool,
}

impl MediaProcess {
    /// The next message and its payload; `None` after `Done`. A `Failed` message is returned as the error, unless the input
    /// could not be read: then that is the error, whatever the child made of it.
    ///
    /// Safe to drop and call again: a half-read frame stays. After `Done` or an error the group is killed.
    pub async fn next(&mut self) -> Result<Option<(Message, Bytes)>, MediaError> {
        if self.finished {
            return Ok(None);
        }
        let received = match self.overdue {
            None => self.receive().await,
            // The wait for its end was given up before.
            Some(overdue) => Err(overdue.into()),
        };
        let result = self.serving.failure().map_or(received, Err);
        if self.overdue.is_some() {
            self.ask_to_end().await;
        }
        if !matches!(&result, Ok(Some((message, _))) if !matches!(message, Message::Done(_))) {
            // Without an await: were this future dropped here, its last word would be lost with it. The runtime
            // reaps the child when this is dropped.
            self.finished = true;
            self.kill_group();
        }
        result
    }

    async fn receive(&mut self) -> Result<Option<(Message, Bytes)>, MediaError> {
        self.caged().await?;
        let (message, payload) = self.hear().await?;
        self.conversation
            .hear(&message, &payload, self.began_at.elapsed())
            .map_err(|breach| crashed(breach.to_string()))?;
        self.watch.heard(&message);
        match message {
            Message::Failed { cause: FailureCause::DeadlineExceeded, .. } => {
                Err(self.watch.at_deadline().into())
            }
            Message::Failed { cause, detail } => {
                Err(MediaError::Failed { cause, detail: Escaped(&detail).to_string() })
            }
            message => {
                if matches!(message, Message::Facts(_)) {
                    self.serving.probed();
                }
                Ok(Some((message, payload)))
            }
        }
    }

    /// What holds of its cage: its first message, which has to be enough.
    async fn caged(&mut self) -> Result<Level, MediaError> {
        if let Some(level) = &self.level {
            return Ok(level.clone());
        }
        let (message, _) = self.hear().await?;
        let Message::Caged(level) = message else {
            return Err(crashed("it spoke before it said what holds of its cage"));
        };
        if let Some(refusal) = self.sandbox.refusal(&level) {
            return Err(MediaError::Uncaged(refusal));
        }
        Ok(self.level.insert(level).clone())
    }

    /// The next message, whatever it is.
    async fn hear(&mut self) -> Result<(Message, Bytes), MediaError> {
        loop {
            match self.frames.take() {
                Ok(None) => {}
                Ok(Some((message, payload))) => {
                    self.last_said = Some(name_of(&message));
                    return Ok((message, payload));
                }
                Err(error) => return Err(crashed(format!("it spoke nonsense: {error}"))),
            }
            if self.read_some().await? == 0 {
                return Err(self.bury().await);
            }
        }
    }

    /// What its end without a last word says of the file. Safe to drop and call again.
    async fn bury(&mut self) -> MediaError {
        let by_itself = self.deathbed.ended_by_itself(self.group).await;
        let status = self.end().await;
        let text = obituary(status, self.last_said.unwrap_or("nothing"), &self.stderr_tail);
        match Blame::of(status, by_itself) {
            Blame::File => MediaError::Crashed(text),
            Blame::CpuLimit => self.watch.at_deadline().into(),
            Blame::Killer => MediaError::Killed(text),
            Blame::Stop => io::Error::other(format!("it was told to end: {text}")).into(),
        }
    }

    /// Waits for bytes on stdout, and keeps stderr from filling up meanwhile. Zero is the end of stdout.
    async fn read_some(&mut self) -> Result<usize, MediaError> {
        loop {
            match self.read_in_time().await {
                Err(stalled @ MediaError::Stalled(_)) => {
                    let owed = self.serving.owed();
                    if owed.is_zero() {
                        return Err(stalled);
                    }
                    self.watch.excuse(owed);
                    self.overdue = None;
                }
                read => return read,
            }
        }
    }

    async fn read_in_time(&mut self) -> Result<usize, MediaError> {
        let listening = self.watch.listen();
        let (until, overdue) = listening.until();
        let read = async {
            loop {
                let mut chunk = [0; 1024];
                tokio::select! {
                    biased;
                    error = self.serving.failed() => return Err(error),
                    read = self.stdout.read_buf(self.frames.space()) => return Ok(read?),
                    read = read_optional(self.stderr.as_mut(), &mut chunk) => match read? {
                        0 => self.stderr = None,
                        length => {
                            self.stderr_tail.push(&chunk[..length]);
                            if self.stderr_tail.is_flood() {
                                return Err(crashed("it floods stderr"));
                            }
                        }
                    },
                }
            }
        };
        if let Ok(read) = timeout_at(until, read).await {
            return read;
        }
        self.overdue = Some(overdue);
        Err(overdue.into())
    }

    /// Gives the group a moment to end by itself before it is killed. The child is not reaped here: until it is, its
    /// number names no other group, so that whoever of the group is left can be killed after it.
    /// Safe to drop and call again.
    async fn ask_to_end(&mut self) {
        if self.asked_at.is_none() {
            self.signal_group(Signal::TERM);
        }
        let asked_at = *self.asked_at.get_or_insert_with(Instant::now);
        // Its end closes the pipe. What it still says is too late.
        let mut nowhere = tokio::io::sink();
        let closed = tokio::io::copy(&mut self.stdout, &mut nowhere);
        drop(timeout_at(asked_at + GRACE, closed).await);
    }

    /// Kills the group and reaps the child. A child that was ending keeps the exit status it had chosen.
    /// Safe to drop and call again: the status is kept, and the end of stderr comes again.
    async fn end(&mut self) -> Option<ExitStatus> {
        self.kill_group();
        let status = timeout(REAP_TIMEOUT, self.child.wait()).await.ok()?.ok();
        // Whatever held stderr open is dead, so its end comes at once.
        self.stderr_tail.read_to_end(&mut self.stderr, REAP_TIMEOUT).await;
        status
    }

    fn kill_group(&self) {
        self.signal_group(Signal::KILL);
    }

    fn signal_group(&self, signal: Signal) {
        // `id` is None once the child is reaped: from then on its number may belong to somebody else.
        if let (Some(_), Some(group)) = (self.child.id(), self.group) {
            // Fails only when the group is gone, which is what is wanted.
            kill_process_group(group, signal).unwrap_or_default();
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

fn crashed(what: impl Into<String>) -> MediaError {
    MediaError::Crashed(what.into())
}
