//! What becomes of pooled connections to a Redis whose role changes under them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pipeline::job::JobId;
use pipeline::queue::Queue;
use pipeline::stage::Stage;

use crate::support::own_redis;

#[tokio::test]
async fn a_connection_to_a_server_that_has_become_a_replica_is_not_used_again() {
    let redis = own_redis().await;
    let queue = Queue::new(&redis.client().queue_config()).expect("settings");
    let connections = async || {
        let list = redis.command(&["CLIENT", "LIST", "TYPE", "normal"]).await.expect("a list");
        let list: String = redis::from_redis_value(list).expect("text");
        let id = |line: &str| line.split(' ').next().map(str::to_owned);
        // Whoever asks is in its own list.
        let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
        others.filter_map(id).collect::<HashSet<String>>()
    };
    queue.check().await.expect("it takes writes");
    queue.lengths().await.expect("lengths");
    let before = connections().await;
    assert_eq!(before.len(), 1, "the same one is used again while all is well");
    redis.command(&["REPLICAOF", "127.0.0.1", "9"]).await.expect("demoted");

    let refused = queue.push(Stage::Transcode, 1, &[JobId::new()]).await.expect_err("a replica");

    assert!(refused.to_string().to_lowercase().contains("replica"), "{refused}");
    let gone = async |before: HashSet<String>| {
        let begun = Instant::now();
        while !connections().await.is_disjoint(&before) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is kept");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    gone(before).await;
    // Any error counts, also one in the middle of a pipeline.
    queue.lengths().await.expect("a replica can be read");
    let before = connections().await;
    queue.check().await.expect_err("a replica");
    gone(before).await;
}
