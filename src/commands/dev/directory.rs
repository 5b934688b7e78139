//! The directory of a private stack: who holds it, and what lies where.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use crate::supervisor::{Postgres, write_private};

/// Held by one process at a time, by a lock that the system lets go of with the process.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes it if need be, and takes the lock.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = super::absolute(path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Enterable: below it Postgres runs as another user when we are root. Not listable; its secrets are 0600.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        let lock = lock(&path)?;
        let directory = Self { path, _lock: lock };
        // Left by a start that was killed: it describes servers that are gone.
        directory.remove_env()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    pub(super) fn env(&self) -> PathBuf {
        self.path.join("dev.env")
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    pub(super) fn write_env(&self, text: &str) -> anyhow::Result<()> {
        Ok(write_private(&self.env(), text.as_bytes())?)
    }

    pub(super) fn remove_env(&self) -> anyhow::Result<()> {
        absent(fs::remove_file(self.env()))
            .with_context(|| format!("cannot remove {}", self.env().display()))
    }

    /// Removes what starts have made, and nothing else: `--dir` may name any directory, and programs and models
    /// may be kept in this one.
    pub(super) fn wipe(&self) -> anyhow::Result<()> {
        self.remove_env()?;
        Postgres::wipe(&self.path.join("postgres"))?;
        for name in ["minio", "redis", "scratch", "logs"] {
            let directory = self.path.join(name);
            absent(fs::remove_dir_all(&directory))
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        // Last: with it go the passwords, without which the rest would be of no use.
        absent(fs::remove_file(self.state())).context("cannot remove state.json")
    }
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        anyhow::bail!(
            "another `clipstream dev` holds {} (process {}). Use it by its dev.env, stop it, or choose another \
             directory with --dir",
            directory.display(),
            holder.trim()
        );
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}
