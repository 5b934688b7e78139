//! The lists on a real Redis: nothing is lost by what they do, and what is lost outside them comes back.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pipeline::db::{Announcer, Db};
use pipeline::dispatch::{self, DispatchConfig};
use pipeline::event::CreatedObject;
use pipeline::job::{JobId, WorkerId};
use pipeline::queue::{ALIVE, Queue, QueueConfig, QueueError};
use pipeline::stage::Stage;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Direction};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{TestRedis, database, redis};

const STAGE: Stage = Stage::Transcode;
const WINDOW: usize = 1_000;
/// Too short to be noticed: the key is gone by the next command.
const DEAD: Duration = Duration::from_millis(1);

async fn queue() -> (Queue, TestRedis) {
    let redis = redis().await;
    (Queue::new(&redis.queue_config()).expect("settings"), redis)
}

async fn connection(redis: &TestRedis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url.as_str()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("a connection")
}

/// What FLUSHALL does, for the keys of this test alone.
async fn empty(redis: &TestRedis) {
    let mut connection = connection(redis).await;
    let keys: Vec<String> = connection.keys(format!("{}*", redis.prefix)).await.expect("keys");
    if !keys.is_empty() {
        let () = connection.del(keys).await.expect("deleted");
    }
}

fn ids(count: usize) -> Vec<JobId> {
    (0..count).map(|_| JobId::new()).collect()
}

fn nothing_in_hand(_: JobId) -> bool {
    false
}

async fn pull_all(queue: &Queue, worker: WorkerId) -> Vec<JobId> {
    let mut consumer = queue.consumer(STAGE, worker);
    let mut pulled = Vec::new();
    while let Some(id) = consumer.pull(|id| pulled.contains(&id)).await.expect("a pull") {
        pulled.push(id);
    }
    pulled
}

async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: it never was so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_id_comes_to_one_of_two_consumers() {
    let (queue, _redis) = queue().await;
    let pushed = ids(40);
    assert_eq!(queue.push(STAGE, WINDOW, &pushed).await.expect("pushed"), 40);
    let (one, other) =
        tokio::join!(pull_all(&queue, WorkerId::new()), pull_all(&queue, WorkerId::new()));
    let all: HashSet<JobId> = one.iter().chain(&other).copied().collect();
    assert_eq!(one.len() + other.len(), 40, "none comes twice");
    assert_eq!(all, pushed.into_iter().collect());
}

#[tokio::test]
async fn ids_come_in_the_order_in_which_they_were_pushed() {
    let (queue, _redis) = queue().await;
    let pushed = ids(5);
    queue.push(STAGE, WINDOW, &pushed).await.expect("pushed");
    assert_eq!(pull_all(&queue, WorkerId::new()).await, pushed);
}

#[tokio::test]
async fn more_than_one_id_is_taken_at_once_and_never_more_than_asked_for() {
    let (queue, _redis) = queue().await;
    let pushed = ids(5);
    queue.push(STAGE, WINDOW, &pushed).await.expect("pushed");
    let (worker, other) = (WorkerId::new(), WorkerId::new());
    let mut consumer = queue.consumer(STAGE, worker);
    assert_eq!(consumer.more(2).await.expect("an answer"), [], "it begins with a pull");
    assert_eq!(consumer.pull(nothing_in_hand).await.expect("a pull"), Some(pushed[0]));
    assert_eq!(consumer.more(2).await.expect("more"), pushed[1..3]);
    assert_eq!(consumer.more(10).await.expect("more"), pushed[3..]);
    assert_eq!(consumer.more(10).await.expect("more"), [], "it does not wait");
    // They lie on this worker's list: another one gets them when it is gone.
    queue.leave(worker, &[STAGE]).await.expect("left");
    assert_eq!(pull_all(&queue, other).await, pushed);
}

#[tokio::test]
async fn a_pull_on_an_empty_queue_ends_by_itself_and_without_an_error() {
    let (queue, _redis) = queue().await;
    let mut consumer = queue.consumer(STAGE, WorkerId::new());
    let begun = Instant::now();
    assert_eq!(consumer.pull(nothing_in_hand).await.expect("no error"), None);
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "it waits on the server");
    // The connection is still good, and a push reaches a pull that is already waiting.
    let id = JobId::new();
    let (pulled, pushed) = tokio::join!(consumer.pull(nothing_in_hand), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        queue.push(STAGE, WINDOW, &[id]).await
    });
    assert_eq!((pulled.expect("a pull"), pushed.expect("a push")), (Some(id), 1));
}

#[tokio::test]
async fn the_ids_of_a_dead_worker_go_back_first_and_in_their_order() {
    let (queue, _redis) = queue().await;
    let (taken, later) = (ids(3), ids(2));
    queue.push(STAGE, WINDOW, &taken).await.expect("pushed");
    let dead = WorkerId::new();
    assert_eq!(pull_all(&queue, dead).await, taken);
    queue.push(STAGE, WINDOW, &later).await.expect("pushed");
    queue.sign(dead, &[STAGE], DEAD).await.expect("the last sign");
    until("its heartbeat is gone", || async { queue.reap(STAGE).await.expect("reaped") == 3 })
        .await;
    assert_eq!(pull_all(&queue, WorkerId::new()).await, [taken, later].concat());
}

#[tokio::test]
async fn a_live_worker_keeps_its_ids() {
    let (queue, _redis) = queue().await;
    let taken = ids(3);
    queue.push(STAGE, WINDOW, &taken).await.expect("pushed");
    pull_all(&queue, WorkerId::new()).await;
    assert_eq!(queue.reap(STAGE).await.expect("nothing to reap"), 0);
    assert_eq!(queue.lengths().await.expect("lengths"), [0; 4]);
    assert_eq!(queue.contents(STAGE).await.expect("contents"), taken.into_iter().collect());
}

#[tokio::test]
async fn a_worker_that_leaves_returns_what_it_has_not_done() {
    let (queue, _redis) = queue().await;
    let taken = ids(3);
    queue.push(STAGE, WINDOW, &taken).await.expect("pushed");
    let worker = WorkerId::new();
    pull_all(&queue, worker).await;
    queue.remove(STAGE, worker, taken[0]).await.expect("done");
    queue.leave(worker, &[STAGE]).await.expect("left");
    assert_eq!(pull_all(&queue, WorkerId::new()).await, taken[1..]);
}

#[tokio::test]
async fn giving_an_id_back_twice_returns_it_once() {
    let (queue, _redis) = queue().await;
    let id = JobId::new();
    queue.push(STAGE, WINDOW, &[id]).await.expect("pushed");
    let worker = WorkerId::new();
    pull_all(&queue, worker).await;
    for _ in 0..2 {
        queue.give_back(STAGE, worker, id).await.expect("given back");
    }
    assert_eq!(queue.lengths().await.expect("lengths")[1], 1);
}

#[tokio::test]
async fn the_window_holds_also_when_many_push_at_once() {
    let (queue, _redis) = queue().await;
    let mut pushes = JoinSet::new();
    for _ in 0..8 {
        let queue = queue.clone();
        pushes.spawn(async move { queue.push(STAGE, 10, &ids(4)).await.expect("pushed") });
    }
    let taken: usize = pushes.join_all().await.into_iter().sum();
    assert_eq!((taken, queue.lengths().await.expect("lengths")[1]), (10, 10));
}

#[tokio::test]
async fn an_id_whose_delivery_was_never_heard_of_is_found_on_the_own_list() {
    let (queue, redis) = queue().await;
    let (lost, in_hand) = (JobId::new(), JobId::new());
    let worker = WorkerId::new();
    let mut consumer = queue.consumer(STAGE, worker);
    assert_eq!(consumer.pull(nothing_in_hand).await.expect("registered"), None);
    // As if the server had carried out a pull whose answer never came.
    let own = format!("{}{{transcode}}:p:{worker}", redis.prefix);
    let ids = [in_hand.to_string(), lost.to_string()];
    let () = connection(&redis).await.rpush(own, &ids).await.expect("moved");
    let found = async {
        loop {
            if let Some(id) = consumer.pull(|id| id == in_hand).await.expect("a pull") {
                return id;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), found).await, Ok(lost));
}

#[tokio::test]
async fn what_is_no_job_id_is_taken_off_the_lists() {
    let (queue, redis) = queue().await;
    let id = JobId::new();
    let waiting = format!("{}{{transcode}}:q", redis.prefix);
    let () = connection(&redis).await.rpush(waiting, "not an id").await.expect("pushed");
    queue.push(STAGE, WINDOW, &[id]).await.expect("pushed");
    let worker = WorkerId::new();
    let mut consumer = queue.consumer(STAGE, worker);
    assert_eq!(consumer.pull(nothing_in_hand).await.expect("a pull"), None);
    assert_eq!(consumer.pull(nothing_in_hand).await.expect("a pull"), Some(id));
    let own = format!("{}{{transcode}}:p:{worker}", redis.prefix);
    let length: usize = connection(&redis).await.llen(own).await.expect("a length");
    assert_eq!(length, 1);
}

#[tokio::test]
async fn a_server_that_forgot_our_scripts_is_told_again() {
    let (queue, redis) = queue().await;
    queue.push(STAGE, WINDOW, &ids(1)).await.expect("pushed");
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut connection(&redis).await)
        .await
        .expect("flushed");
    queue.push(STAGE, WINDOW, &ids(1)).await.expect("pushed again");
    assert_eq!(queue.reap(STAGE).await.expect("reaped"), 0);
}

#[tokio::test]
async fn an_emptied_redis_is_noticed_once() {
    let (queue, redis) = queue().await;
    assert!(queue.was_emptied().await.expect("an answer"), "the first use");
    assert!(!queue.was_emptied().await.expect("an answer"));
    empty(&redis).await;
    assert!(queue.was_emptied().await.expect("an answer"));
    assert!(!queue.was_emptied().await.expect("an answer"));
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_outage_and_bad_settings_are_not() {
    let at = |url: &str| Queue::new(&QueueConfig { url: url.to_owned(), prefix: "t:".to_owned() });
    let away = at("redis://127.0.0.1:9").expect("it does not connect");
    assert!(matches!(away.check().await, Err(QueueError::Unavailable(_))));
    let mut consumer = away.consumer(STAGE, WorkerId::new());
    assert!(matches!(consumer.pull(nothing_in_hand).await, Err(QueueError::Unavailable(_))));
    assert!(matches!(at("not a url"), Err(QueueError::Config(_))));
}

#[tokio::test]
async fn a_working_redis_passes_the_check() {
    let (queue, _redis) = queue().await;
    queue.check().await.expect("it takes writes");
    queue.settings_warnings().await.expect("settings");
    let version = queue.server_version().await.expect("one that we can use").expect("it says so");
    assert!(version.contains('.'), "{version}");
}

/// A video whose first job is due.
async fn video(db: &Db, number: usize) {
    let object = CreatedObject {
        bucket: "clipstream".to_owned(),
        key: format!("raw-uploads/{number}.mp4"),
        etag: Some(format!("e{number}")),
        version_id: None,
        size_bytes: 1,
        content_type: None,
        sequencer: None,
    };
    db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
}

#[tokio::test]
async fn dispatch_keeps_the_backlog_in_postgres_and_refills_what_redis_lost() {
    const FIRST: Stage = Stage::DuplicateDetection;
    const SMALL: usize = 8;
    let (queue, redis) = queue().await;
    let database = database().await;
    for number in 0..20 {
        video(&database.db, number).await;
    }
    let stop = CancellationToken::new();
    let mut dispatcher = JoinSet::new();
    let config = DispatchConfig { window: SMALL, ..DispatchConfig::default() };
    dispatcher.spawn(dispatch::run(config, database.db.clone(), queue.clone(), stop.clone()));
    let full = || async { queue.lengths().await.expect("lengths")[0] == SMALL };
    until("the window is full", full).await;

    // Once workers have taken half of it, it is refilled, and never more than the window waits.
    let worker = WorkerId::new();
    let mut consumer = queue.consumer(FIRST, worker);
    let first = consumer.pull(nothing_in_hand).await.expect("a pull").expect("an id");
    let more = consumer.more(SMALL / 2 - 1).await.expect("more");
    assert_eq!(more.len(), SMALL / 2 - 1);
    until("the window is full again", full).await;
    let there = queue.contents(FIRST).await.expect("contents");
    assert_eq!(there.len(), SMALL + SMALL / 2, "those that were taken, the rest waits");
    assert!(there.contains(&first) && more.iter().all(|id| there.contains(id)));

    // Nobody pushes by hand: only the rows know what was there. All of it comes back, the taken one too.
    let begun = Instant::now();
    empty(&redis).await;
    until("the window is refilled", full).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "it does not take the next diff");
    queue.sign(worker, &[FIRST], ALIVE).await.expect("alive");
    let mut seen = HashSet::new();
    while seen.len() < 20 {
        let id = consumer.pull(|id| seen.contains(&id)).await.expect("a pull");
        let Some(id) = id else { continue };
        seen.insert(id);
        let claim = database.db.claim(id, worker, ALIVE, ALIVE).await.expect("an answer");
        assert!(claim.is_some(), "each id comes for a job that is still to be done");
        queue.remove(FIRST, worker, id).await.expect("removed");
    }
    stop.cancel();
    dispatcher.join_all().await;
}

#[tokio::test]
async fn an_id_stuck_on_the_list_of_a_live_worker_is_dispatched_again() {
    const FIRST: Stage = Stage::DuplicateDetection;
    let (queue, redis) = queue().await;
    let database = database().await;
    let stop = CancellationToken::new();
    let mut dispatcher = JoinSet::new();
    let db = database.db.clone();
    dispatcher.spawn(dispatch::run(DispatchConfig::default(), db, queue.clone(), stop.clone()));
    let worker = WorkerId::new();
    queue.sign(worker, &[FIRST], Duration::from_mins(10)).await.expect("alive, and busy for hours");
    video(&database.db, 1).await;
    let waits = || async { queue.lengths().await.expect("lengths")[0] == 1 };
    until("it is dispatched", waits).await;
    // As if the worker had asked for it and never heard the answer.
    let list = |kind: &str| format!("{}{{{FIRST}}}:{kind}", redis.prefix);
    let moved: String = connection(&redis)
        .await
        .lmove(list("q"), list(&format!("p:{worker}")), Direction::Left, Direction::Right)
        .await
        .expect("moved");
    let age = "update jobs set dispatched_at = now() - interval '31 s' where state = 'pending'";
    sqlx::query(age).execute(database.pool()).await.expect("half a minute later");

    until("it is dispatched again", waits).await;

    let id = moved.parse().expect("an id");
    assert!(queue.waiting(FIRST).await.expect("ids").contains(&id));
    stop.cancel();
    dispatcher.join_all().await;
}

#[tokio::test]
async fn a_single_lost_id_is_found_by_the_diff() {
    const FIRST: Stage = Stage::DuplicateDetection;
    let (queue, redis) = queue().await;
    let database = database().await;
    let stop = CancellationToken::new();
    let mut dispatcher = JoinSet::new();
    let db = database.db.clone();
    dispatcher.spawn(dispatch::run(DispatchConfig::default(), db, queue.clone(), stop.clone()));
    video(&database.db, 1).await;
    let waits = || async { queue.lengths().await.expect("lengths")[0] == 1 };
    until("it is dispatched", waits).await;
    // The marker stays, so nothing says that Redis was emptied.
    let waiting = format!("{}{{{FIRST}}}:q", redis.prefix);
    let () = connection(&redis).await.del(waiting).await.expect("deleted");
    until("it is dispatched again", waits).await;
    stop.cancel();
    dispatcher.join_all().await;
}
