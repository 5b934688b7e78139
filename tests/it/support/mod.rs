//! What the tests stand on: real servers, and a world of its own for each test.
//!
//! One Postgres and one Redis serve all tests of a run; databases and key prefixes keep the tests apart. A MinIO
//! belongs to one test. All are started by the supervisor that `clipstream dev` uses, in a directory of the run.

mod app;
mod daemon;
mod database;
mod minio;
mod redis;
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use app::{TestApp, app, app_with};
pub(crate) use daemon::Daemon;
pub(crate) use database::{TestDatabase, database, empty_database};
pub(crate) use minio::{TestMinio, minio, minio_with_webhook, minio_without_targets};
pub(crate) use redis::{OwnRedis, TestRedis, own_redis, redis};

/// The binary under test.
pub(crate) fn clipstream() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clipstream"))
}

/// Where the set-up keeps what it has fetched and built.
pub(crate) fn cache_dir() -> PathBuf {
    clipstream::config::cache_dir().expect("HOME is set")
}

/// Where this run keeps its files; removed by the next run.
pub(crate) fn run_directory() -> &'static Path {
    world::directory()
}

/// Waits until something is so; fails when it never is.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: it never was so");
        std::thread::sleep(Duration::from_millis(20));
    }
}
