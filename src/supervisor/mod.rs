//! Private Postgres, Redis and MinIO as child processes: what `clipstream dev` and the tests run on.
//!
//! Owns starting, probing, watching and stopping of servers; it must never leave a process behind, whatever way we end.
//! Not for production: everything listens on loopback, and the secrets lie beside the files of the servers.

mod account;
mod log;
mod minio;
mod ports;
mod postgres;
mod postmaster;
mod probe;
mod process;
mod programs;
mod redis;
mod spawner;
mod stack;
mod state;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

pub use minio::{Minio, MinioServer};
pub use ports::{free_or_other, free_port};
pub use postgres::{Postgres, PostgresServer};
pub use process::{Death, Process};
pub use programs::Programs;
pub use redis::{Redis, RedisServer};
pub use stack::Stack;
pub use state::{State, random_hex, write_private};

/// Why a server of ours does not run: what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("{program} was not found (looked in {looked}). {remedy}")]
    ProgramMissing { program: &'static str, looked: String, remedy: &'static str },
    #[error("could not {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "Postgres refuses to run as root, and there is no system user postgres to run it as. \
         Install the package postgresql, which makes one, or start clipstream as another user"
    )]
    NoPostgresUser,
    #[error("{name} could not be started from {}: {source}", program.display())]
    Spawn { name: &'static str, program: PathBuf, source: io::Error },
    #[error("{0}")]
    Died(Death),
    #[error("{name} was not ready after {after:?}: {last}. Its log is {}\n{tail}", log.display())]
    NotReady { name: &'static str, after: Duration, last: String, log: PathBuf, tail: String },
    #[error("{name} did not end within {after:?}; its log is {}", log.display())]
    Stuck { name: &'static str, after: Duration, log: PathBuf },
    #[error("{} is not ours to read: {detail}. Move it away, or wipe with `clipstream dev reset`", path.display())]
    BadState { path: PathBuf, detail: String },
    #[error("no free port on 127.0.0.1 among a hundred tried; close something that listens")]
    NoPort,
}

impl SupervisorError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

/// A directory that only we can look into: the user's videos lie below it.
fn create_private(directory: &Path) -> Result<(), SupervisorError> {
    fs::create_dir_all(directory).map_err(SupervisorError::file("create", directory))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
        .map_err(SupervisorError::file("chmod", directory))
}

/// How a process ended, in words: `exit status: 1`, `signal: 9 (SIGKILL)`.
fn in_words(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "it ended in an unknown way".to_owned(), |status| status.to_string())
}
