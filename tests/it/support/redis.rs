//! The Redis of the run, with keys of its own for each test; or one of a test alone, for tests that break it.

use std::path::Path;

use clipstream::supervisor::{Redis, RedisServer, free_port, random_hex};
use pipeline::queue::QueueConfig;
use uuid::Uuid;

use super::world;

/// A prefix nobody else uses. Tests must never flush: the others live in the same database.
pub(crate) struct TestRedis {
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl TestRedis {
    pub(crate) fn queue_config(&self) -> QueueConfig {
        QueueConfig { url: self.url.clone(), prefix: self.prefix.clone() }
    }

    /// What FLUSHALL is to this test: every key of its prefix goes, in one script. Says how many went.
    pub(crate) async fn lose_everything(&self) -> usize {
        let client = ::redis::Client::open(self.url.as_str()).expect("a URL of our own");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
        let script = "local keys = redis.call('KEYS', ARGV[1]) \
                      for _, key in ipairs(keys) do redis.call('DEL', key) end \
                      return #keys";
        let pattern = format!("{}*", self.prefix);
        let script = ::redis::Script::new(script);
        script.arg(pattern).invoke_async(&mut connection).await.expect("the script runs")
    }
}

pub(crate) async fn redis() -> TestRedis {
    let url = world::redis().await.url();
    TestRedis { url, prefix: format!("test:{}:", Uuid::now_v7().simple()) }
}

/// A Redis of one test alone, killed when the test ends. Its files go with the directory of the run.
pub(crate) struct OwnRedis {
    server: RedisServer,
}

impl OwnRedis {
    /// How its only user sees it.
    pub(crate) fn client(&self) -> TestRedis {
        TestRedis { url: self.server.url(), prefix: "test:".to_owned() }
    }

    /// Its process id: for tests that make it hang.
    pub(crate) fn pid(&self) -> i32 {
        self.server.process().pid()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.server.directory()
    }

    /// What it answers to a command.
    pub(crate) async fn command(&self, words: &[&str]) -> ::redis::RedisResult<::redis::Value> {
        let client = ::redis::Client::open(self.server.url()).expect("a URL of our own");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it is up");
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }
}

pub(crate) async fn own_redis() -> OwnRedis {
    let directory = world::directory().join(format!("redis-{}", random_hex().expect("bytes")));
    let redis = Redis {
        log: directory.with_extension("log"),
        directory,
        port: free_port().expect("a port"),
        password: random_hex().expect("random bytes"),
    };
    let server = redis.start(&world::programs()).await.unwrap_or_else(|error| panic!("{error}"));
    OwnRedis { server }
}
