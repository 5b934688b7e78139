//! The directory of a run, and the two servers that all its tests share. They are never stopped in order: the
//! parent-death signal ends them with the run, and the next run removes what is left on disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clipstream::supervisor::{
    Postgres, PostgresServer, Programs, Redis, RedisServer, free_port, random_hex,
};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::OnceCell;

const PREFIX: &str = "clipstream-it-";

/// A directory that lasts as long as the run. The lock beside it tells the next run whether it is over.
pub(super) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<(PathBuf, File)> = OnceLock::new();
    &DIRECTORY
        .get_or_init(|| {
            remove_finished_runs();
            let name = format!("{PREFIX}{}", random_hex().expect("random bytes"));
            let directory = std::env::temp_dir().join(name);
            let lock = File::create(directory.with_extension("lock")).expect("a lock file");
            flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else's lock");
            fs::create_dir(&directory).expect("a directory of the run");
            (directory, lock)
        })
        .0
}

/// What a run leaves when it ends: nothing of it runs any more, so it can go.
fn remove_finished_runs() {
    let entries = fs::read_dir(std::env::temp_dir()).expect("the temporary directory");
    for lock in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = lock.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || lock.extension().is_none_or(|extension| extension != "lock")
        {
            continue;
        }
        let Ok(file) = File::open(&lock) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let directory = lock.with_extension("");
        let wiped = Postgres::wipe(&directory.join("postgres"));
        if wiped.is_ok() && (!directory.exists() || fs::remove_dir_all(&directory).is_ok()) {
            fs::remove_file(&lock).expect("our own file");
        }
    }
}

pub(super) fn programs() -> Programs {
    Programs::new(&directory().join("bin"), Some(&super::cache_dir()))
}

pub(super) async fn postgres() -> &'static PostgresServer {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    let start = async || {
        let postgres = Postgres {
            directory: directory().join("postgres"),
            log: directory().join("postgres.log"),
            port: free_port().expect("a port"),
            password: random_hex().expect("random bytes"),
            max_connections: 400,
            durable: false,
        };
        postgres.start(&programs()).await.unwrap_or_else(|error| panic!("{error}"))
    };
    SERVER.get_or_init(start).await
}

pub(super) async fn redis() -> &'static RedisServer {
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    let start = async || {
        let redis = Redis {
            directory: directory().join("redis"),
            log: directory().join("redis.log"),
            port: free_port().expect("a port"),
            password: random_hex().expect("random bytes"),
        };
        redis.start(&programs()).await.unwrap_or_else(|error| panic!("{error}"))
    };
    SERVER.get_or_init(start).await
}
