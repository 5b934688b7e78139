//! Scratch space: the source of a video, fetched once per host and shared by all stages that need it at the time.
//! Names in it are ids of our own; nothing a user wrote becomes a path. A crash leaves a directory whose lock nobody
//! holds, and the next process on the host removes it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use uuid::Uuid;

use super::StageError;
use crate::media::{Input, InputError};
use crate::storage::Storage;
use crate::video::{FailureCause, Source, VideoId};

/// Held in each directory by the process that owns it, for as long as it lives.
const LOCK_FILE: &str = "lock";

/// The scratch directory of this process. Cheap to clone.
#[derive(Clone)]
pub struct Scratch {
    directory: Arc<Directory>,
    /// One slot per video. Whoever fetches holds its lock, so that the others wait for the file instead of fetching too.
    sources: Arc<Mutex<HashMap<VideoId, Slot>>>,
}

type Slot = Arc<tokio::sync::Mutex<Weak<SourceFile>>>;

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
        Ok(Self { directory: Arc::new(directory), sources: Arc::default() })
    }

    /// The source on disk: fetched by whoever asks first, removed when the last user drops it.
    pub async fn source(
        &self,
        storage: &Storage,
        source: &Source,
    ) -> Result<Arc<SourceFile>, StageError> {
        let slot = self.slot(source.video);
        let mut shared = slot.lock().await;
        if let Some(file) = shared.upgrade() {
            return Ok(file);
        }
        let file = Arc::new(self.fetch(storage, source).await?);
        *shared = Arc::downgrade(&file);
        Ok(file)
    }

    /// A path for a file of the caller's, which goes when the returned value is dropped.
    pub(super) fn file(&self) -> ScratchFile {
        let path = self.directory.path.join(Uuid::now_v7().to_string());
        ScratchFile { path, _directory: Arc::clone(&self.directory) }
    }

    async fn fetch(&self, storage: &Storage, source: &Source) -> Result<SourceFile, StageError> {
        let etag = match &source.etag {
            Some(etag) => etag.clone(),
            None => storage.head(&source.key).await.map_err(StageError::of_source)?.etag,
        };
        let file = self.file();
        let fetched = storage
            .download(&source.key, &etag, &file.path)
            .await
            .map_err(StageError::of_source)?;
        // An uploader can forge an ETag, so the same tag is no proof of the same object.
        if source.size_bytes.is_some_and(|expected| expected != fetched.size_bytes)
            || source.sha256.is_some_and(|expected| expected != fetched.sha256)
        {
            return Err(StageError::Fail {
                cause: FailureCause::SourceMissing,
                detail:
                    "the uploaded object was overwritten after it was accepted; upload it again under a new key or URL"
                        .into(),
            });
        }
        Ok(SourceFile { file, sha256: fetched.sha256, size_bytes: fetched.size_bytes })
    }

    fn slot(&self, video: VideoId) -> Slot {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        // Slots of files that are gone, and that nobody is filling.
        sources.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.try_lock().is_ok_and(|shared| shared.strong_count() > 0)
        });
        Arc::clone(sources.entry(video).or_default())
    }
}

/// A fetched source; the file goes with the last reference.
pub struct SourceFile {
    file: ScratchFile,
    sha256: [u8; 32],
    size_bytes: u64,
}

impl SourceFile {
    /// For one child.
    pub fn reader(self: &Arc<Self>) -> Result<SourceReader, InputError> {
        let file = File::open(&self.file.path).map_err(|error| unreadable(&error))?;
        Ok(SourceReader { file: Arc::new(file), source: Arc::clone(self) })
    }
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// The source as one child reads it.
pub struct SourceReader {
    file: Arc<File>,
    source: Arc<SourceFile>,
}

impl Input for SourceReader {
    fn size_bytes(&self) -> u64 {
        self.source.size_bytes
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a read of at most a megabyte: abandoned, it ends by itself and changes nothing"
    )]
    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(|error| unreadable(&error)),
            Err(error) => Err(InputError::Away(error.to_string())),
        }
    }
}

fn unreadable(error: &io::Error) -> InputError {
    InputError::Away(format!("scratch could not be read: {error}"))
}

/// A path in the scratch directory. The file, if it was made, goes with this value: also when a download is given up.
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
