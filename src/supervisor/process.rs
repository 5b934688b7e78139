//! One child server: its process group, its readiness and its end.
//!
//! Three things keep it from outliving us: the parent-death signal (we are killed), the process group (we stop it), and
//! `Drop` (we forget it). A crash of ours at any line leaves at most files, never a process.

use std::fmt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

use super::spawner::{Spec, spawn};
use super::{SupervisorError, in_words, log};

const PROBE_PAUSE: Duration = Duration::from_millis(25);

/// A running child. Dropping it kills its group.
pub struct Process {
    name: &'static str,
    pid: Pid,
    log: PathBuf,
    stop: Signal,
    /// True while the pid is ours to signal: from the spawn until just before it is reaped.
    alive: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<Exit>>,
    waiter: Option<JoinHandle<()>>,
}

/// `None` inside: it ended, and the system would not say how.
type Exit = Option<ExitStatus>;

/// A server that ended when nobody asked it to.
#[derive(Debug, Clone)]
pub struct Death {
    pub name: &'static str,
    pub how: String,
    pub log: PathBuf,
    pub tail: String,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Death { name, how, log, tail } = self;
        write!(f, "{name} died ({how}). Its log is {}; it ends with:\n{tail}", log.display())
    }
}

impl Process {
    /// Starts a server; its earlier log is kept beside the new one as `.old`.
    pub(super) async fn start(spec: Spec) -> Result<Self, SupervisorError> {
        let (name, program, log, stop) =
            (spec.name, spec.program.clone(), spec.log.clone(), spec.stop);
        let child = spawn(spec).await?;
        let pid = Pid::from_child(&child);
        let alive = Arc::new(Mutex::new(true));
        let (tell, exit) = watch::channel(None);
        let waiter = thread::Builder::new()
            .name(format!("wait {name}"))
            .spawn({
                let alive = Arc::clone(&alive);
                move || wait(child, pid, &alive, &tell)
            })
            .map_err(|source| {
                kill_group(pid);
                SupervisorError::Spawn { name, program, source }
            })?;
        Ok(Self { name, pid, log, stop, alive, exit, waiter: Some(waiter) })
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process id, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Asks `probe` until it says yes; fails as soon as the server dies, or at the deadline.
    pub(super) async fn ready(
        &self,
        deadline: Duration,
        probe: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), SupervisorError> {
        let begun = Instant::now();
        let mut last;
        loop {
            let answer = tokio::select! {
                answer = tokio::time::timeout(deadline, probe()) => answer,
                death = self.died() => return Err(SupervisorError::Died(death)),
            };
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => last = why,
                Err(_) => last = "the probe got no answer".to_owned(),
            }
            if begun.elapsed() >= deadline {
                let (name, log, tail) = (self.name, self.log.clone(), self.tail());
                return Err(SupervisorError::NotReady { name, after: deadline, last, log, tail });
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        // An error means that the waiter is gone, which it is only after the child is.
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| (*exit).flatten())
    }

    /// Waits for its end and says what is known of it.
    pub async fn died(&self) -> Death {
        let how = in_words(self.exited().await);
        Death { name: self.name, how, log: self.log.clone(), tail: self.tail() }
    }

    /// Asks it to end, waits, and kills the group when `patience` is over.
    pub async fn stop(&self, patience: Duration) {
        self.signal(|pid| rustix::process::kill_process(pid, self.stop));
        if tokio::time::timeout(patience, self.exited()).await.is_err() {
            tracing::warn!(server = self.name, "did not stop when asked: killed");
            self.kill();
            self.exited().await;
        }
    }

    /// Kills the group, without waiting.
    pub fn kill(&self) {
        self.signal(|pid| rustix::process::kill_process_group(pid, Signal::KILL));
    }

    /// Kills the group and blocks until it is gone: for `Drop` of whoever owns its files.
    pub fn kill_and_wait(&mut self) {
        self.kill();
        if let Some(waiter) = self.waiter.take() {
            // A waiter that panicked has nothing more to tell.
            drop(waiter.join());
        }
    }

    /// Under the lock the pid cannot have been reaped and given to somebody else.
    fn signal(&self, send: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive && let Err(error) = send(self.pid) {
            tracing::debug!(server = self.name, %error, "could not be signalled");
        }
    }

    fn tail(&self) -> String {
        log::tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A group that is gone already is as good as one that was killed.
fn kill_group(pid: Pid) {
    if let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL) {
        tracing::trace!(pid = %pid, %error, "no group to kill");
    }
}

/// Reaps the child, and before that sweeps what it left in its group: until the leader is reaped, the number is its own.
fn wait(mut child: Child, pid: Pid, alive: &Mutex<bool>, tell: &watch::Sender<Option<Exit>>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
    let status = {
        let mut alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
        kill_group(pid);
        *alive = false;
        child.wait().ok()
    };
    tell.send_replace(Some(status));
}
