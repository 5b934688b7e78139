//! The binary as a child process: started, signalled, and read, as an operator would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clipstream::supervisor::random_hex;
use rustix::process::{Pid, Signal, kill_process};

use super::world;

const PATIENCE: Duration = Duration::from_secs(90);

/// A running `clipstream`, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Without any setting of ours in its environment, so that tests say all that matters.
    pub(crate) fn command() -> Command {
        Self::command_of(super::clipstream())
    }

    /// As [`Self::command`], of another build.
    pub(crate) fn command_of(program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(world::directory());
        // Several daemons run at once.
        command.env("METRICS_PORT", "0");
        for name in ["PATH", "HOME", "GOPATH", "TMPDIR", "XDG_CACHE_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let name = format!("daemon-{}.log", random_hex().expect("random bytes"));
        let log = world::directory().join(name);
        let file = File::create(&log).expect("a log");
        let second = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(second).spawn();
        Self { child: child.expect("it starts"), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Everything it has written.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).expect("its log")
    }

    /// Waits until something is so; fails when the process ends before, or never.
    pub(crate) fn until<T>(&mut self, what: &str, mut so: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = so() {
                return value;
            }
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended before {what}: {}", self.output());
            assert!(begun.elapsed() < PATIENCE, "{what} did not happen: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has written something.
    pub(crate) fn until_output(&mut self, text: &str) {
        let log = self.log.clone();
        self.until(text, || {
            fs::read_to_string(&log).expect("its log").contains(text).then_some(())
        });
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
