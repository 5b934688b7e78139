//! A private Redis: append-only file, never evicting, one password.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::programs::{Programs, environment};
use super::spawner::Spec;
use super::{Process, SupervisorError, create_private, probe, write_private};

const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What to start. The password must be of `[A-Za-z0-9]`.
#[derive(Clone)]
pub struct Redis {
    pub directory: PathBuf,
    pub log: PathBuf,
    pub port: u16,
    pub password: String,
}

/// A Redis that answers.
pub struct RedisServer {
    config: Redis,
    process: Process,
}

impl Redis {
    pub async fn start(self, programs: &Programs) -> Result<RedisServer, SupervisorError> {
        let program = programs.redis()?;
        create_private(&self.directory)?;
        let file = self.directory.join("redis.conf");
        write_private(&file, self.file().as_bytes())?;
        let process = Process::start(Spec {
            name: "Redis",
            program,
            arguments: vec![file.into()],
            environment: environment(),
            directory: self.directory.clone(),
            account: None,
            stdin: Stdio::null(),
            log: self.log.clone(),
            stop: Signal::TERM,
        })
        .await?;
        process.ready(START_PATIENCE, async || self.ping().await).await?;
        Ok(RedisServer { config: self, process })
    }

    /// Relative paths: the server's working directory is ours, and the user's may hold spaces.
    fn file(&self) -> String {
        let Self { port, password, .. } = self;
        format!(
            "# Written at every start of clipstream dev.\n\
             bind 127.0.0.1\n\
             port {port}\n\
             requirepass {password}\n\
             dir ./\n\
             daemonize no\n\
             supervised no\n\
             appendonly yes\n\
             appendfsync everysec\n\
             save \"\"\n\
             maxmemory 256mb\n\
             maxmemory-policy noeviction\n\
             tcp-keepalive 15\n"
        )
    }

    /// A Redis that still loads its file answers, but not with PONG.
    async fn ping(&self) -> Result<(), String> {
        let question = format!("AUTH {}\r\nPING\r\n", self.password);
        let two_lines = |answer: &str| answer.matches("\r\n").count() >= 2;
        let answer = probe::ask(self.port, &question, two_lines).await?;
        if answer.ends_with("+PONG\r\n") { Ok(()) } else { Err(probe::first_line(&answer)) }
    }
}

impl RedisServer {
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.config.password, self.config.port)
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.config.directory
    }

    pub async fn stop(self) {
        self.process.stop(STOP_PATIENCE).await;
    }
}
