//! A private MinIO with the two webhook targets: one that is quick, one that is certain.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pipeline::storage::{DURABLE_TARGET, IMMEDIATE_TARGET};
use rustix::process::Signal;

use super::programs::{Programs, environment};
use super::spawner::Spec;
use super::{Process, SupervisorError, create_private, probe};

const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Clone)]
pub struct Minio {
    /// Holds the objects in `objects`, the events not yet delivered in `events`.
    pub directory: PathBuf,
    pub log: PathBuf,
    pub port: u16,
    pub console_port: u16,
    pub user: String,
    pub password: String,
    /// The whole URL that events are posted to.
    pub webhook_url: String,
    pub webhook_token: String,
}

/// A MinIO that answers.
pub struct MinioServer {
    config: Minio,
    process: Process,
}

impl Minio {
    pub async fn start(self, programs: &Programs) -> Result<MinioServer, SupervisorError> {
        let program = programs.minio()?;
        create_private(&self.directory)?;
        for name in ["objects", "events", "certs"] {
            create_private(&self.directory.join(name))?;
        }
        let process = Process::start(Spec {
            name: "MinIO",
            program,
            arguments: vec![
                "server".into(),
                "--quiet".into(),
                "--address".into(),
                format!("127.0.0.1:{}", self.port).into(),
                "--console-address".into(),
                format!("127.0.0.1:{}", self.console_port).into(),
                "--certs-dir".into(),
                self.directory.join("certs").into(),
                self.directory.join("objects").into(),
            ],
            environment: self.environment(),
            directory: self.directory.clone(),
            account: None,
            stdin: Stdio::null(),
            log: self.log.clone(),
            stop: Signal::TERM,
        })
        .await?;
        process.ready(START_PATIENCE, async || self.live().await).await?;
        Ok(MinioServer { config: self, process })
    }

    /// The immediate target posts at once and forgets what was not taken. The durable one writes each event to disk
    /// first and repeats it until it is taken, up to 3 s later. One unusable target would switch off both.
    fn environment(&self) -> Vec<(String, std::ffi::OsString)> {
        let mut environment = environment();
        let mut set = |name: &str, value: &str| environment.push((name.to_owned(), value.into()));
        set("MINIO_ROOT_USER", &self.user);
        set("MINIO_ROOT_PASSWORD", &self.password);
        set("MINIO_UPDATE", "off");
        for target in [DURABLE_TARGET, IMMEDIATE_TARGET] {
            set(&format!("MINIO_NOTIFY_WEBHOOK_ENABLE_{target}"), "on");
            set(&format!("MINIO_NOTIFY_WEBHOOK_ENDPOINT_{target}"), &self.webhook_url);
            set(&format!("MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_{target}"), &self.webhook_token);
        }
        environment.push((
            format!("MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_{DURABLE_TARGET}"),
            self.directory.join("events").into(),
        ));
        environment
    }

    /// By an unsigned S3 call, which a MinIO that is ready refuses. `/minio/health/live` says 200 already while every
    /// S3 call still gets 503 "Server not initialized yet".
    async fn live(&self) -> Result<(), String> {
        let question =
            format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port);
        let answer = probe::ask(self.port, &question, |answer| answer.contains("\r\n")).await?;
        let line = probe::first_line(&answer);
        if line.contains(" 403 ") { Ok(()) } else { Err(line) }
    }
}

impl MinioServer {
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.port)
    }

    #[must_use]
    pub fn console(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.console_port)
    }

    #[must_use]
    pub fn config(&self) -> &Minio {
        &self.config
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Blocks until it is killed: for `Drop` of whoever removes its files next.
    pub fn kill_and_wait(&mut self) {
        self.process.kill_and_wait();
    }

    pub async fn stop(self) {
        self.process.stop(STOP_PATIENCE).await;
    }
}
