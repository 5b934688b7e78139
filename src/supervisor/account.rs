//! Whom Postgres runs as: it refuses root. Everything else runs as ourselves.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::SupervisorError;

/// A system user, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The user `postgres` when we are root; `None` when Postgres can run as ourselves.
    pub(super) fn for_postgres() -> Result<Option<Self>, SupervisorError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let users = fs::read_to_string(path).map_err(SupervisorError::file("read", path))?;
        parse(&users, "postgres").map(Some).ok_or(SupervisorError::NoPostgresUser)
    }

    pub(super) fn own(self, path: &Path) -> Result<(), SupervisorError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(SupervisorError::file("chown", path))
    }

    /// The first directory on the way to `path` that this user cannot enter. Directories that do not exist are not asked.
    pub(super) fn cannot_enter(self, path: &Path) -> io::Result<Option<PathBuf>> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        for directory in way {
            let metadata = match fs::metadata(directory) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let bit = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & bit == 0 {
                return Ok(Some(directory.to_owned()));
            }
        }
        Ok(None)
    }
}

fn parse(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some(Account { uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(parse(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(parse(passwd, "redis"), None);
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let closed = tempfile::tempdir().expect("a directory");
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        let stranger = Account { uid: 4_000_000, gid: 4_000_000 };
        let inside = closed.path().join("a/b");
        assert_eq!(
            stranger.cannot_enter(&inside).expect("readable"),
            Some(closed.path().to_owned())
        );
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        assert_eq!(stranger.cannot_enter(&inside).expect("readable"), None);
    }
}
