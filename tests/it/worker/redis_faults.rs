//! A Redis that is full, hung, read-only or out of disk: uploads are accepted all the same, a full one still drains, and
//! after the others work goes on by itself.

use std::fs;
use std::time::{Duration, Instant};

use pipeline::worker::WorkerConfig;
use rustix::process::{Pid, Signal, kill_process};

use super::{World, succeed, until};
use crate::support::{OwnRedis, own_redis};

/// Long enough for the pauses between two tries to have grown to their longest.
const OUTAGE: Duration = Duration::from_secs(5);
/// Longer than a pull waits for an answer.
const HANG: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_full_redis_still_drains() {
    let redis = own_redis().await;
    let mut world = World::on(redis.client()).await;
    world.start(WorkerConfig::default(), succeed);
    world.upload().await;
    until("the first is ready", || world.all_ready()).await;

    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.expect("set");
    let refused = redis.command(&["SET", "anything", "more"]).await.expect_err("it is full");
    assert_eq!(refused.code(), Some("OOM"));
    for _ in 0..20 {
        world.upload().await;
    }
    // One that was there before it was full, and one that meets a full one at its start.
    world.start(WorkerConfig::default(), succeed);
    until("all are ready", || world.all_ready()).await;
    until("nothing is left in it", || world.is_quiet()).await;
    assert!(world.queue.check().await.is_err(), "health says that it is full");
    world.assert_nothing_charged().await;
    world.stop_workers().await;
}

/// The story of every outage: uploads are accepted meanwhile, and all of them are done within 10 s of its end.
async fn work_goes_on_after(
    redis: &OwnRedis,
    lasting: Duration,
    break_it: impl AsyncFn(),
    mend_it: impl AsyncFn(),
) {
    let mut world = World::on(redis.client()).await;
    world.start(WorkerConfig::default(), succeed);
    world.upload().await;
    until("the first is ready", || world.all_ready()).await;

    break_it().await;
    assert!(world.queue.check().await.is_err(), "health says so");
    for _ in 0..10 {
        // The webhook's own statement; it fails the test if it is not accepted.
        world.upload().await;
    }
    tokio::time::sleep(lasting).await;
    assert!(!world.all_ready().await, "it was no outage");

    mend_it().await;
    let mended = Instant::now();
    until("all are ready", || world.all_ready()).await;
    assert!(mended.elapsed() < Duration::from_secs(10), "{:?}", mended.elapsed());
    world.assert_nothing_charged().await;
    world.stop_workers().await;
}

#[tokio::test]
async fn work_goes_on_after_a_hang() {
    let redis = own_redis().await;
    let signal = |signal| kill_process(Pid::from_raw(redis.pid()).expect("a process"), signal);
    let stop = async || signal(Signal::STOP).expect("it runs");
    let go_on = async || signal(Signal::CONT).expect("it is there");
    work_goes_on_after(&redis, HANG, stop, go_on).await;
}

#[tokio::test]
async fn work_goes_on_after_a_time_as_a_replica() {
    let redis = own_redis().await;
    let demote = async || {
        redis.command(&["REPLICAOF", "127.0.0.1", "9"]).await.expect("demoted");
        let refused = redis.command(&["SET", "anything", "more"]).await.expect_err("refused");
        assert_eq!(refused.code(), Some("READONLY"));
    };
    let promote = async || {
        redis.command(&["REPLICAOF", "NO", "ONE"]).await.expect("promoted");
    };
    work_goes_on_after(&redis, OUTAGE, demote, promote).await;
}

#[tokio::test]
async fn work_goes_on_after_a_full_disk() {
    let redis = own_redis().await;
    // Nothing can be renamed over a directory with something in it: to Redis, a disk that takes no file.
    let snapshot = redis.directory().join("dump.rdb");
    let saved = async |status: &str| {
        redis.command(&["BGSAVE"]).await.expect("begun");
        let wanted = format!("rdb_last_bgsave_status:{status}");
        until("the snapshot has ended", || async {
            let info = redis.command(&["INFO", "persistence"]).await.expect("an answer");
            let info: String = redis::from_redis_value(info).expect("text");
            info.contains("rdb_bgsave_in_progress:0") && info.contains(&wanted)
        })
        .await;
    };
    let fill = async || {
        fs::create_dir_all(snapshot.join("something")).expect("a directory");
        redis.command(&["CONFIG", "SET", "save", "3600 1"]).await.expect("set");
        saved("err").await;
        let refused = redis.command(&["SET", "anything", "more"]).await.expect_err("refused");
        assert_eq!(refused.code(), Some("MISCONF"));
    };
    let clear = async || {
        fs::remove_dir_all(&snapshot).expect("removed");
        saved("ok").await;
    };
    work_goes_on_after(&redis, OUTAGE, fill, clear).await;
}
