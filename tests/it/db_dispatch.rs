//! Fair dispatch: whose job goes next, and that a mark is never believed too long.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use pipeline::db::{Db, DbError, Share};
use pipeline::job::{JobId, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::OwnerId;
use sqlx::{Executor, PgPool};
use tokio::time::timeout;

use crate::db_actors::{
    DEADLINE, LEASE, PATIENCE, arrived, claimed, complete, detected, job_of, job_row,
    let_time_pass, until_blocked,
};
use crate::support::{TestDatabase, database};

const STAGE: Stage = Stage::DuplicateDetection;

/// An owner with this many pending jobs, the oldest waiting for `age_s` seconds.
async fn backlog(pool: &PgPool, name: &str, jobs: i32, age_s: i32) -> OwnerId {
    let owner = OwnerId::new();
    sqlx::query(
        "with o as (insert into owners (id, name) values ($1, $2)),
         v as (insert into videos (id, owner_id, bucket, object_key, identity, announced_by, state)
               select gen_random_uuid(), $1, 'b', $2 || n, 'etag:x', 'webhook', 'processing'
                 from generate_series(1, $3) n
               returning id, object_key)
         insert into jobs (id, video_id, owner_id, stage, run_at)
         select gen_random_uuid(), v.id, $1, 'duplicate_detection',
                now() - make_interval(secs => $4) + make_interval(secs => 0.001 * substring(v.object_key from '[0-9]+$')::int)
           from v",
    )
    .bind(owner.0)
    .bind(name)
    .bind(jobs)
    .bind(f64::from(age_s))
    .execute(pool)
    .await
    .expect("a backlog");
    owner
}

async fn owners(pool: &PgPool, jobs: &[JobId]) -> Vec<OwnerId> {
    let rows: Vec<(uuid::Uuid, uuid::Uuid)> =
        sqlx::query_as("select id, owner_id from jobs").fetch_all(pool).await.expect("rows");
    let owner: HashMap<_, _> = rows.into_iter().collect();
    jobs.iter().map(|job| OwnerId(owner[&job.0])).collect()
}

#[tokio::test]
async fn owners_take_turns_whatever_the_length_of_their_line() {
    let test = database().await;
    let noisy = backlog(test.pool(), "noisy", 50, 100).await;
    let quiet = backlog(test.pool(), "quiet", 2, 10).await;
    let late = backlog(test.pool(), "late", 1, 1).await;

    let due = test.db.due(STAGE, 7).await.expect("due");

    let order = owners(test.pool(), &due).await;
    assert_eq!(order, [noisy, quiet, late, noisy, quiet, noisy, noisy]);
}

#[tokio::test]
async fn one_free_slot_at_a_time_is_shared_as_well() {
    let test = database().await;
    let noisy = backlog(test.pool(), "noisy", 50, 100).await;
    let quiet = backlog(test.pool(), "quiet", 3, 1).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        let due = test.db.due(STAGE, 1).await.expect("due");
        // Half of them run, half wait in Redis: both count as taken.
        if order.len() % 2 == 0 {
            let claim = test.db.claim(due[0], WorkerId::new(), LEASE, DEADLINE).await;
            claim.expect("an answer").expect("a claim");
        }
        order.extend(owners(test.pool(), &due).await);
    }
    assert_eq!(order, [noisy, quiet, noisy, quiet, noisy, quiet]);
}

/// Of these jobs, how many belong to each of two owners.
async fn counts(pool: &PgPool, jobs: &[JobId], one: OwnerId, other: OwnerId) -> (usize, usize) {
    let order = owners(pool, jobs).await;
    let of = |wanted| order.iter().filter(|owner| **owner == wanted).count();
    (of(one), of(other))
}

#[tokio::test]
async fn weights_give_their_ratio_at_once_and_slot_by_slot() {
    let test = database().await;
    let heavy = backlog(test.pool(), "heavy", 100, 1).await;
    let light = backlog(test.pool(), "light", 100, 1_000).await;
    let share = Share { weight: 3, max_inflight: None };
    let set = test.db.set_share("heavy", Some(3), None).await.expect("an answer");
    assert_eq!(set, Some(share));
    assert_eq!(test.db.share("heavy").await.expect("an answer"), Some(share));

    let at_once = test.db.due(STAGE, 40).await.expect("due");
    assert_eq!(counts(test.pool(), &at_once, heavy, light).await, (30, 10));
    let mut one_by_one = Vec::new();
    for _ in 0..20 {
        one_by_one.extend(test.db.due(STAGE, 1).await.expect("due"));
    }
    assert_eq!(counts(test.pool(), &one_by_one, heavy, light).await, (15, 5));
}

#[tokio::test]
async fn a_share_is_only_granted_to_an_owner_and_within_its_range() {
    let test = database().await;
    let set = async |name, weight, limit| test.db.set_share(name, weight, limit).await;
    assert_eq!(set("nobody", Some(2), None).await.expect("an answer"), None);
    assert_eq!(test.db.share("nobody").await.expect("an answer"), None);
    for (weight, limit) in [(Some(0), None), (Some(101), None), (None, Some(-1))] {
        let error = set("default", weight, limit).await.expect_err("out of range");
        assert!(matches!(error, DbError::Constraint(_)), "{error}");
    }
    let share = |weight, max_inflight| Some(Share { weight, max_inflight });
    assert_eq!(test.db.share("default").await.expect("an answer"), share(1, None));
    // What is not given stays, and a limit can be taken away.
    for (weight, limit, then) in [
        (Some(4), None, share(4, None)),
        (None, Some(7), share(4, Some(7))),
        (Some(2), None, share(2, Some(7))),
        (None, Some(0), share(2, None)),
    ] {
        assert_eq!(set("default", weight, limit).await.expect("an answer"), then);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatchers_at_once_keep_to_an_owners_limit_together() {
    let test = database().await;
    let limited = backlog(test.pool(), "limited", 200, 100).await;
    let free = backlog(test.pool(), "free", 40, 1).await;
    let set = test.db.set_share("limited", None, Some(5)).await.expect("an answer");
    assert_eq!(set, Some(Share { weight: 1, max_inflight: Some(5) }));
    let mut admitted = Vec::new();
    for _ in 0..5 {
        let rounds = (0..8).map(|_| test.db.due(STAGE, 3));
        for due in futures_util::future::join_all(rounds).await {
            admitted.extend(due.expect("due"));
        }
    }
    assert_eq!(counts(test.pool(), &admitted, limited, free).await, (5, 40));

    // Running counts as well; only an end makes room.
    let order = owners(test.pool(), &admitted).await;
    let first = order.iter().position(|owner| *owner == limited).expect("one of them");
    let claim = test.db.claim(admitted[first], WorkerId::new(), LEASE, DEADLINE).await;
    let lease = claim.expect("an answer").expect("a claim").lease;
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), []);
    complete(&test.db, &lease).await;
    assert_eq!(test.db.due(STAGE, 10).await.expect("due").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_counts_what_the_one_before_it_admitted() {
    let test = database().await;
    backlog(test.pool(), "limited", 20, 1).await;
    let set = test.db.set_share("limited", None, Some(5)).await.expect("an answer");
    assert_eq!(set, Some(Share { weight: 1, max_inflight: Some(5) }));
    let mut other = test.pool().acquire().await.expect("a connection");
    other.execute("begin").await.expect("begun");
    other.execute("select dispatch_turn('duplicate_detection')").await.expect("its turn");

    let (due, ()) = tokio::join!(test.db.due(STAGE, 10), async {
        until_blocked(test.pool(), 1).await;
        // Not those that the waiting one has seen first, as when urgent ones came meanwhile.
        other
            .execute(
                "update jobs set dispatched_at = now()
                  where id in (select id from jobs order by run_at desc limit 5)",
            )
            .await
            .expect("admitted");
        other.execute("commit").await.expect("committed");
    });

    assert_eq!(due.expect("due"), [], "the owner has its five");
}

/// What a job of priority 0 and one of priority 1 get to see of each other, the first having waited for so long.
async fn first_of(test: &TestDatabase, waited: &str) -> i64 {
    backlog(test.pool(), waited, 2, 0).await;
    sqlx::query(
        "update jobs j set priority = 1 from videos v where v.id = j.video_id and v.object_key = $1 || '2'",
    )
    .bind(waited)
    .execute(test.pool())
    .await
    .expect("raised");
    sqlx::query(
        "update jobs j set run_at = now() - $1::text::interval from videos v
          where v.id = j.video_id and v.object_key = $1 || '1'",
    )
    .bind(waited)
    .execute(test.pool())
    .await
    .expect("aged");
    sqlx::query("update jobs set run_at = now() - interval '1 s' where priority = 1")
        .execute(test.pool())
        .await
        .expect("due");
    let due = test.db.due(STAGE, 1).await.expect("due");
    let priority = job_row(test.pool(), due[0]).await["priority"].as_i64();
    sqlx::query("delete from videos").execute(test.pool()).await.expect("emptied");
    priority.expect("a number")
}

#[tokio::test]
async fn a_priority_is_a_head_start_and_starves_nobody() {
    let test = database().await;
    assert_eq!(first_of(&test, "9 min").await, 1, "it overtakes");
    assert_eq!(first_of(&test, "11 min").await, 0, "ten minutes of waiting are worth a step");
}

#[tokio::test]
async fn the_next_jobs_of_a_video_inherit_its_priority() {
    let test = database().await;
    let video = arrived(&test.db).await;
    assert_eq!(test.db.set_priority(video, 7).await.expect("a count"), 1);
    let lease = claimed(&test.db, test.pool(), video, STAGE).await;
    complete(&test.db, &lease).await;
    for stage in [Stage::Transcode, Stage::SpeechToText, Stage::Embeddings] {
        let job = job_of(test.pool(), video, stage).await;
        assert_eq!(job_row(test.pool(), job).await["priority"], 7);
    }
    assert_eq!(test.db.set_priority(video, 0).await.expect("a count"), 3, "not the one that ended");
}

/// Drains everything that small owners have, with a window and some slots, and says after how many rounds of the slots
/// each of their jobs was begun.
async fn waits_of_small_owners(test: &TestDatabase, noisy: i32) -> Vec<usize> {
    const WINDOW: usize = 16;
    const SLOTS: usize = 4;
    let mut window = VecDeque::new();
    if noisy > 0 {
        backlog(test.pool(), "noisy", noisy, 1_000).await;
        window.extend(test.db.due(STAGE, WINDOW).await.expect("due"));
    }
    let mut small = HashSet::new();
    for number in 0..9 {
        small.insert(backlog(test.pool(), &format!("small{number}-"), 10, 1).await);
    }
    let mut waits = Vec::new();
    for round in 1.. {
        window.extend(test.db.due(STAGE, WINDOW - window.len()).await.expect("due"));
        for _ in 0..SLOTS {
            let Some(job) = window.pop_front() else { return waits };
            let claim = test.db.claim(job, WorkerId::new(), LEASE, DEADLINE).await;
            let lease = claim.expect("an answer").expect("a claim").lease;
            complete(&test.db, &lease).await;
            if small.contains(&lease.owner) {
                waits.push(round);
            }
        }
        if waits.len() == 90 {
            break;
        }
    }
    waits
}

#[tokio::test]
async fn fifty_thousand_jobs_of_one_owner_do_not_double_the_waits_of_others() {
    let (alone, crowded) = (database().await, database().await);
    let alone = waits_of_small_owners(&alone, 0).await;
    let crowded = waits_of_small_owners(&crowded, 50_000).await;
    assert_eq!((alone.len(), crowded.len()), (90, 90));
    for percentile in [50, 99] {
        let of = |waits: &[usize]| waits[90 * percentile / 100];
        let (alone, crowded) = (of(&alone), of(&crowded));
        assert!(crowded < 2 * alone, "p{percentile}: {crowded} rounds instead of {alone}");
    }
}

#[tokio::test]
async fn within_an_owner_priority_goes_first_and_then_age() {
    let test = database().await;
    backlog(test.pool(), "owner", 5, 100).await;
    sqlx::query("update jobs set priority = 1 where id = (select id from jobs order by run_at desc limit 1)")
        .execute(test.pool())
        .await
        .expect("raised");
    let expected: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from jobs order by priority desc, run_at")
            .fetch_all(test.pool())
            .await
            .expect("rows");

    let due = test.db.due(STAGE, 10).await.expect("due");

    assert_eq!(due.iter().map(|job| job.0).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn only_pending_jobs_of_the_stage_whose_time_has_come_are_due() {
    let test = database().await;
    let (waits, runs) = (arrived(&test.db).await, arrived(&test.db).await);
    let lease = claimed(&test.db, test.pool(), waits, STAGE).await;
    let minute = Duration::from_mins(1);
    test.db.release(&lease, "MinIO is away", minute).await.expect("an answer");
    claimed(&test.db, test.pool(), runs, STAGE).await;
    let other = detected(&test.db, test.pool()).await;

    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), []);
    let transcode = job_of(test.pool(), other, Stage::Transcode).await;
    assert_eq!(test.db.due(Stage::Transcode, 10).await.expect("due"), [transcode]);
    let_time_pass(test.pool()).await;
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), [lease.job]);
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), [], "it is marked");
    assert_eq!(test.db.due(STAGE, 0).await.expect("due"), []);
}

#[tokio::test]
async fn a_mark_can_be_taken_back_and_old_marks_can_be_listed() {
    let test = database().await;
    backlog(test.pool(), "owner", 3, 100).await;
    let due = test.db.due(STAGE, 10).await.expect("due");
    assert_eq!(test.db.dispatched(STAGE, Duration::ZERO).await.expect("marks").len(), 3);
    let minute = Duration::from_mins(1);
    assert_eq!(test.db.dispatched(STAGE, minute).await.expect("marks"), [], "they are young");

    let claim = test.db.claim(due[0], WorkerId::new(), LEASE, DEADLINE).await;
    claim.expect("an answer").expect("a claim");
    assert_eq!(test.db.undispatch(&due).await.expect("a count"), 2, "one runs");
    assert_eq!(test.db.due(STAGE, 10).await.expect("due"), due[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatchers_at_once_never_take_the_same_job() {
    let test = database().await;
    backlog(test.pool(), "one", 200, 100).await;
    backlog(test.pool(), "two", 200, 50).await;
    let mut taken = Vec::new();
    while taken.len() < 400 {
        let due = || test.db.due(STAGE, 20);
        let (a, b, c) = tokio::join!(due(), due(), due());
        for due in [a, b, c] {
            taken.extend(due.expect("due"));
        }
    }
    let all = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((all, taken.len()), (400, 400));
}

#[tokio::test]
async fn a_long_backlog_costs_no_more_than_a_short_one() {
    let test = database().await;
    backlog(test.pool(), "noisy", 20_000, 100_000).await;
    for owner in 0..20 {
        backlog(test.pool(), &format!("quiet{owner}-"), 5, 10).await;
    }
    sqlx::query("analyze jobs").execute(test.pool()).await.expect("analysed");
    // Rows that were read, not seconds: the same on every machine.
    let read = async || -> i64 {
        sqlx::query_scalar(
            "select t.seq_tup_read + (select sum(i.idx_tup_read)::bigint from pg_stat_user_indexes i
                                       where i.relname = 'jobs')
               from pg_stat_user_tables t where t.relname = 'jobs'",
        )
        .fetch_one(test.pool())
        .await
        .expect("a count")
    };
    sqlx::query("select pg_stat_force_next_flush()").execute(test.pool()).await.expect("flushed");
    let before = read().await;

    // A session hands in its counts when it ends.
    let dispatcher = Db::connect(&test.url, 1).expect("a URL");
    assert_eq!(dispatcher.due(STAGE, 10).await.expect("due").len(), 10);
    drop(dispatcher);

    let handed_in = async {
        loop {
            let after = read().await;
            if after > before {
                return after - before;
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = timeout(PATIENCE, handed_in).await.expect("the counts never came");
    assert!(rows < 2_000, "{rows} rows were read");
}
