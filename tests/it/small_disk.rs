//! A file system of its own, as small as a test wants it: what a full disk does can only be seen on a full disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const CHUNK_BYTES: usize = 64 * 1024;

/// A tmpfs. Unmounted when it is dropped.
pub(crate) struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    pub(crate) fn new(mib: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let size = format!("size={mib}m");
        as_root(
            &["mount", "-t", "tmpfs", "-o", &format!("{size},mode=1777"), "clipstream-test"],
            directory.path(),
        );
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What is on it stays.
    pub(crate) fn resize(&self, mib: u64) {
        as_root(&["mount", "-o", &format!("remount,size={mib}m")], self.path());
    }

    /// A file that takes all that is free at this moment; more, if it is there already.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::options().create(true).append(true).open(&path).expect("a file");
        let chunk = vec![7; CHUNK_BYTES];
        loop {
            match file.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return path,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until then.
        as_root(&["umount", "--lazy"], self.path());
    }
}

fn as_root(command: &[&str], path: &Path) {
    let is_root = rustix::process::geteuid().is_root();
    let before: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    let words = [before, command].concat();
    let output = Command::new(words[0]).args(&words[1..]).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(
        output.status.success(),
        "{words:?} {}: {} (a small disk is mounted by root: run the tests as root, or let sudo do it)",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
