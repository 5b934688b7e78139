//! Scratch space: a directory of this process, and the sources in it. Names in it are ids of our own; nothing a user wrote
//! becomes a path. A crash leaves a directory whose lock nobody holds, and the next process on the host removes it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use uuid::Uuid;

use super::StageError;
use super::source::{self, IdleBudget, Promise, Room, SourceFile, Space};
use crate::storage::{ObjectVersion, Storage};
use crate::video::Source;

/// Held in each directory by the process that owns it, for as long as it lives.
const LOCK_FILE: &str = "lock";

/// The scratch directory of this process. Cheap to clone.
#[derive(Clone)]
pub struct Scratch {
    directory: Arc<Directory>,
    room: Arc<Room>,
}

impl Scratch {
    /// `root/{pid}-{unique}`; other directories under `root` whose process is gone are removed.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        private_directory().recursive(true).create(&root)?;
        let root = fs::canonicalize(root)?;
        refuse_foreign(&root)?;
        // Nobody makes or removes a directory but under this lock: a directory without a held lock is always a dead one.
        let gate = lock_file(&root)?;
        gate.lock()?;
        remove_dead(&root)?;
        let directory = Directory::make(&root)?;
        Ok(Self {
            room: Room::new(directory.path.clone(), None, IdleBudget::default()),
            directory: Arc::new(directory),
        })
    }

    /// What must stay free on its file system; without a number what is usual. To be called before the first source.
    #[must_use]
    pub fn with_floor(self, floor_bytes: Option<u64>) -> Self {
        Self { room: self.room.with_floor(floor_bytes), ..self }
    }

    /// What may lie here without a user; to be called before the first source.
    #[must_use]
    pub fn with_idle_budget(self, budget: IdleBudget) -> Self {
        Self { room: self.room.with_idle_budget(budget), ..self }
    }

    /// The source of a video, shared by all who ask, with room for all of it. Its bytes come as they are read.
    pub async fn source(
        &self,
        storage: &Storage,
        source: &Source,
    ) -> Result<SourceFile, StageError> {
        let (etag, size_bytes) = match (source.etag.clone(), source.size_bytes) {
            (Some(etag), Some(size_bytes)) => (etag, size_bytes),
            (etag, size_bytes) => {
                let found = storage.head(&source.key).await.map_err(StageError::of_source)?;
                (etag.unwrap_or(found.etag), size_bytes.unwrap_or(found.size_bytes))
            }
        };
        let object = ObjectVersion { key: source.key.clone(), etag, size_bytes };
        source::open(&self.room, storage, source, object, self.file()).await
    }

    /// Keeps room for the sound of a source. How long that is nobody knows before: hardly as many bytes as the source, whose
    /// picture and sound together would then have less than 256 kbit/s, and never more than `most_bytes`.
    pub(super) async fn promise_sound(
        &self,
        most_bytes: u64,
        source: &SourceFile,
    ) -> Result<Promise, StageError> {
        let bytes = most_bytes.min(source.size_bytes());
        let promised = self.room.promise(bytes, source.size_bytes()).await?;
        Ok(promised.inspect_err(|refusal| self.room.refused(refusal))?)
    }

    /// Whether there is room to begin something; idle sources go for it. To be asked before each job.
    pub async fn has_room(&self) -> bool {
        self.room.is_there().await
    }

    /// Whether nothing could be begun when that was asked last.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// What its file system has.
    pub fn space(&self) -> io::Result<Space> {
        self.room.space()
    }

    /// What the sources occupy here, those included that nobody uses at the moment.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.room.source_bytes()
    }

    /// A path for a file of the caller's, which goes when the returned value is dropped.
    pub(super) fn file(&self) -> ScratchFile {
        let path = self.directory.path.join(Uuid::now_v7().to_string());
        ScratchFile { path, _directory: Arc::clone(&self.directory) }
    }
}

/// A path in the scratch directory. The file, if it was made, goes with this value.
pub(super) struct ScratchFile {
    path: PathBuf,
    /// The directory outlives every file in it.
    _directory: Arc<Directory>,
}

impl ScratchFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a scratch file could not be removed");
            }
            _ => {}
        }
    }
}

/// The directory of one process, and the lock that says that the process lives.
struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    fn make(root: &Path) -> io::Result<Self> {
        let path = root.join(format!("{}-{}", std::process::id(), Uuid::now_v7()));
        private_directory().create(&path)?;
        let lock = lock_file(&path)?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the scratch directory could not be removed");
        }
    }
}

/// Uploads are nobody else's business: only we can look into what this makes.
fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Never follows a link, never empties what is there.
fn lock_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory.join(LOCK_FILE), flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// In a directory like `/tmp` somebody else may have made ours first, and could read and swap what we put there.
fn refuse_foreign(root: &Path) -> io::Result<()> {
    let metadata = fs::metadata(root)?;
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "the scratch directory {} belongs to another user, who could read and change what is kept there; \
             set CLIPSTREAM_SCRATCH to a directory of its own",
            root.display()
        ),
    ))
}

/// Whether a name is one that [`Directory::make`] gives: nothing else under the root is ever removed.
fn is_ours(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.split_once('-'))
        .is_some_and(|(pid, unique)| pid.parse::<u32>().is_ok() && Uuid::try_parse(unique).is_ok())
}

fn remove_dead(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !is_ours(&entry.file_name()) {
            continue;
        }
        let alive = match File::open(entry.path().join(LOCK_FILE)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => false,
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(error)) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !alive {
            fs::remove_dir_all(entry.path())?;
            tracing::info!(path = %entry.path().display(), "removed the scratch directory of a dead process");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_neighbour_stays_and_a_dead_one_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let first = Scratch::open(root.path().to_owned()).unwrap();
        let dead = root.path().join(format!("4000000-{}", Uuid::now_v7()));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK_FILE), "").unwrap();
        fs::write(dead.join("source"), "left behind").unwrap();
        let died_while_starting = root.path().join(format!("4000001-{}", Uuid::now_v7()));
        fs::create_dir(&died_while_starting).unwrap();
        let foreign = root.path().join("2026-holiday");
        fs::create_dir(&foreign).unwrap();

        let second = Scratch::open(root.path().to_owned()).unwrap();

        assert!(first.directory.path.exists(), "a live neighbour keeps its directory");
        assert!(second.directory.path.exists());
        assert!(!dead.exists());
        assert!(!died_while_starting.exists());
        assert!(foreign.exists(), "what we did not make is not ours to remove");
    }

    #[test]
    fn files_and_directory_go_with_their_last_user() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(root.path().to_owned()).unwrap();
        let directory = scratch.directory.path.clone();
        let file = scratch.file();
        fs::write(file.path(), "bytes").unwrap();
        drop(scratch);
        assert!(directory.exists(), "a file in use keeps the directory");
        drop(file);
        assert!(!directory.exists());
    }
}
