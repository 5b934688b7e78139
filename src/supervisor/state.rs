//! What a private stack remembers between two starts: ports and secrets, in one file that only its user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SupervisorError;

/// Ports are wishes: one that is taken is replaced. Secrets are made once.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    pub postgres_port: u16,
    pub redis_port: u16,
    pub minio_port: u16,
    pub console_port: u16,
    pub postgres_password: String,
    pub redis_password: String,
    pub minio_user: String,
    pub minio_password: String,
    pub webhook_token: String,
    /// Where the daemon listened last.
    pub api_port: Option<u16>,
    /// Made after the first migration.
    pub api_key: Option<String>,
}

impl State {
    /// The state of an earlier start with its ports looked at again, or a fresh one. Not yet on disk.
    pub fn load_or_new(path: &Path) -> Result<Self, SupervisorError> {
        let earlier: Option<Self> = match fs::read(path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| {
                let detail = error.to_string();
                SupervisorError::BadState { path: path.to_owned(), detail }
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(SupervisorError::file("read", path)(error)),
        };
        let mut state = match earlier {
            Some(state) => state,
            None => Self::fresh()?,
        };
        for port in [
            &mut state.postgres_port,
            &mut state.redis_port,
            &mut state.minio_port,
            &mut state.console_port,
        ] {
            *port = super::free_or_other((*port != 0).then_some(*port))?;
        }
        Ok(state)
    }

    fn fresh() -> Result<Self, SupervisorError> {
        Ok(Self {
            postgres_port: 0,
            redis_port: 0,
            minio_port: 0,
            console_port: 0,
            postgres_password: random_hex()?,
            redis_password: random_hex()?,
            minio_user: "clipstream".to_owned(),
            minio_password: random_hex()?,
            webhook_token: random_hex()?,
            api_port: None,
            api_key: None,
        })
    }

    pub fn save(&self, path: &Path) -> Result<(), SupervisorError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| SupervisorError::file("write", path)(error.into()))?;
        write_private(path, &text)
    }
}

/// 192 random bits in hexadecimal: safe in URLs, files and environments without quoting.
pub fn random_hex() -> Result<String, SupervisorError> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| {
        SupervisorError::file("read", Path::new("/dev/urandom"))(io::Error::other(
            error.to_string(),
        ))
    })?;
    Ok(hex::encode(bytes))
}

/// Writes a file of mode 0600 whole or not at all: readers see the old one or the new one, also after a crash.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), SupervisorError> {
    let temporary = path.with_extension("partial");
    let write = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // `create_new`: a file that somebody left there, with another mode, is never reused.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    write().map_err(SupervisorError::file("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_load_keeps_secrets_and_ports() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        let first = State::load_or_new(&path).expect("fresh");
        first.save(&path).expect("saved");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = State::load_or_new(&path).expect("loaded");
        assert_eq!(first.postgres_password, second.postgres_password);
        assert_eq!(first.minio_port, second.minio_port);
        assert_ne!(first.minio_password, first.redis_password);
    }

    #[test]
    fn a_broken_state_says_how_to_go_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        fs::write(&path, "{").expect("written");
        let error = State::load_or_new(&path).err().expect("it is broken").to_string();
        assert!(error.contains("dev reset"), "{error}");
    }
}
