//! The Redis of the run, with keys of its own for each test.

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
