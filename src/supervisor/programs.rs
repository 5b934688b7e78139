//! Where the servers' programs are: on the PATH, or where Debian, Go and our own set-up put them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::SupervisorError;

/// The directories to look in, in order.
#[derive(Debug, Clone)]
pub struct Programs {
    directories: Vec<PathBuf>,
}

impl Programs {
    /// `own` first (`.clipstream/bin`), then the PATH, then the usual places; `cache` is where the set-up builds.
    #[must_use]
    pub fn new(own: &Path, cache: Option<&Path>) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let go = std::env::var_os("GOPATH").filter(|go| !go.is_empty()).map(PathBuf::from);
        let mut directories = vec![own.to_owned()];
        directories.extend(std::env::split_paths(&path));
        directories.push("/usr/local/bin".into());
        directories
            .extend(go.or_else(|| home.as_deref().map(|h| h.join("go"))).map(|g| g.join("bin")));
        directories.extend(cache.map(|cache| cache.join("bin")));
        Self { directories }
    }

    pub(super) fn redis(&self) -> Result<PathBuf, SupervisorError> {
        const REMEDY: &str = "Install the package redis-server (apt-get install redis-server)";
        find(&self.directories, "redis-server", REMEDY)
    }

    pub(super) fn minio(&self) -> Result<PathBuf, SupervisorError> {
        const REMEDY: &str =
            "`make demo` builds it with Go 1.24 or later; a minio of your own on the PATH will do";
        find(&self.directories, "minio", REMEDY)
    }

    /// The directory of Postgres' programs: of the wanted major version if it is there, else of the latest.
    pub(super) fn postgres(&self, wanted: Option<&str>) -> Result<PathBuf, SupervisorError> {
        const REMEDY: &str = "Install the package postgresql (apt-get install postgresql)";
        let mut versions = debian_versions();
        if let Some(wanted) = wanted {
            // A stable sort: the wanted version comes first, the others stay latest first.
            versions.sort_by_key(|(version, _)| version.to_string() != wanted);
        }
        let mut directories: Vec<PathBuf> = versions.into_iter().map(|(_, bin)| bin).collect();
        directories.extend(self.directories.iter().cloned());
        let initdb = find(&directories, "initdb", REMEDY)?;
        // A link on the PATH leads to the directory where its siblings are.
        let initdb = fs::canonicalize(&initdb).map_err(SupervisorError::file("follow", &initdb))?;
        Ok(initdb.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// `/usr/lib/postgresql/*/bin`, the latest version first.
fn debian_versions() -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions
}

fn find(
    directories: &[PathBuf],
    program: &'static str,
    remedy: &'static str,
) -> Result<PathBuf, SupervisorError> {
    let found = directories.iter().map(|directory| directory.join(program)).find(|path| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    });
    found.ok_or_else(|| {
        let looked: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
        SupervisorError::ProgramMissing { program, looked: looked.join(", "), remedy }
    })
}

/// The whole environment of a server: where its helpers are, and a locale.
pub(super) fn environment() -> Vec<(String, OsString)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    vec![("PATH".to_owned(), PATH.into()), ("LANG".to_owned(), "C.UTF-8".into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_package() {
        let error = find(&["/nowhere".into()], "redis-server", "Install the package redis-server");
        let text = error.expect_err("there is no such directory").to_string();
        assert!(text.contains("/nowhere") && text.contains("package redis-server"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_run_is_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("minio"), "").expect("written");
        assert!(find(&[directory.path().to_owned()], "minio", "").is_err());
    }
}
