//! The lock files of a Postgres that was killed with us. Postgres itself takes it for a running server when the number
//! of the dead process was given to another one, or when nobody has reaped it, as in many containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SupervisorError;

/// How long a server that is just being killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Removes the lock files unless its server runs. Whoever calls holds the directory, so nobody else starts one.
/// A backend that outlived its server is still noticed: by the shared memory, whose key is made from the directory.
pub(super) async fn clear_lock(cluster: &Path) -> Result<(), SupervisorError> {
    let lock = cluster.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&lock) else { return Ok(()) };
    let pid: u32 = text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let gone = async {
        while runs_in(cluster, pid) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(PATIENCE, gone).await.is_err() {
        // It runs. Its own error, on the start that follows, names the process.
        return Ok(());
    }
    tracing::info!(pid, "the last Postgres here was killed; it recovers now");
    for socket in sockets(cluster).map_err(SupervisorError::file("read", cluster))? {
        fs::remove_file(&socket).map_err(SupervisorError::file("remove", &socket))?;
    }
    // Last: while it is there, the next start comes here again.
    fs::remove_file(&lock).map_err(SupervisorError::file("remove", &lock))
}

/// Its sockets lie in the cluster, each with a lock file of its own.
fn sockets(cluster: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(cluster)?.collect::<io::Result<Vec<_>>>()?;
    let is_socket = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".s.PGSQL."))
    };
    Ok(entries.into_iter().map(|entry| entry.path()).filter(is_socket).collect())
}

/// A server works in its cluster. A dead one has no working directory, whether it was reaped or not.
fn runs_in(cluster: &Path, pid: u32) -> bool {
    match (fs::read_link(format!("/proc/{pid}/cwd")), fs::canonicalize(cluster)) {
        (Ok(directory), Ok(cluster)) => directory == cluster,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lock_of_another_process_with_the_same_number_is_removed() {
        let cluster = tempfile::tempdir().expect("a directory");
        let lock = cluster.path().join("postmaster.pid");
        // We run, but not in there.
        fs::write(&lock, format!("{}\n{}\n", std::process::id(), cluster.path().display()))
            .expect("written");
        let socket = cluster.path().join(".s.PGSQL.5432.lock");
        fs::write(&socket, "").expect("written");
        clear_lock(cluster.path()).await.expect("cleared");
        assert!(!lock.exists() && !socket.exists());
        clear_lock(cluster.path()).await.expect("nothing to clear");
    }

    #[test]
    fn a_process_in_the_directory_runs() {
        let here = std::env::current_dir().expect("a directory");
        assert!(runs_in(&here, std::process::id()));
        assert!(!runs_in(Path::new("/"), std::process::id()));
    }
}
