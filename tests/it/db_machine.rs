//! The promise of the whole: any mix of arrivals, repeats, overwritten sources, strikes, outages, lost workers, late
//! commits and operators' orders ends, for every video, in `ready`, `duplicate`, `failed` or `expired`, and is never in
//! between without something that takes it on.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline::db::{Commit, Ordered, Strike};
use pipeline::job::{JobId, Lease};
use pipeline::stage::Stage;
use pipeline::video::{FailureCause, VideoId};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use uuid::Uuid;

use crate::db_actors::{LEASE, job_row, let_time_pass, row};
use crate::db_world::{CONTENTS, MAX_STRIKES, SECOND, World};
use crate::support::database;

#[derive(Debug, Clone)]
enum Command {
    Upload(usize),
    Announce(usize),
    /// An announced upload comes, in time or after its URL has ended.
    Arrive(Index),
    UrlsEnd,
    TellAgain(Index),
    Overwrite(Index, usize),
    Dispatch(Stage),
    Claim(Stage, Index),
    Finish(Index),
    Strike(Index, bool),
    Fail(Index, FailureCause),
    /// A dependency is away, or the process stops.
    Release(Index, Duration),
    LoseWorker(Index),
    Overrun(Index),
    LateCommit(Index),
    Sweep,
    TimePasses,
    /// Of a job that ended badly, or well.
    Rerun(Index, bool),
    /// Of a job that waits or runs.
    Cancel(Index),
    Pause(Stage),
    Resume(Stage),
}

fn command() -> impl Strategy<Value = Command> {
    let stage = || select(Stage::ALL.to_vec());
    let content = || 0..CONTENTS.len();
    let cause = || select(vec![FailureCause::Corrupt, FailureCause::SourceMissing]);
    let delay = || select(vec![Duration::ZERO, SECOND]);
    let any_index = any::<Index>;
    prop_oneof![
        3 => content().prop_map(Command::Upload),
        1 => content().prop_map(Command::Announce),
        1 => any_index().prop_map(Command::Arrive),
        1 => Just(Command::UrlsEnd),
        1 => any_index().prop_map(Command::TellAgain),
        1 => (any_index(), content()).prop_map(|(index, content)| Command::Overwrite(index, content)),
        1 => stage().prop_map(Command::Dispatch),
        14 => (stage(), any_index()).prop_map(|(stage, index)| Command::Claim(stage, index)),
        11 => any_index().prop_map(Command::Finish),
        2 => (any_index(), any::<bool>()).prop_map(|(index, crash)| Command::Strike(index, crash)),
        2 => (any_index(), cause()).prop_map(|(index, cause)| Command::Fail(index, cause)),
        1 => (any_index(), delay()).prop_map(|(index, delay)| Command::Release(index, delay)),
        2 => any_index().prop_map(Command::LoseWorker),
        1 => any_index().prop_map(Command::Overrun),
        1 => any_index().prop_map(Command::LateCommit),
        2 => Just(Command::Sweep),
        3 => Just(Command::TimePasses),
        5 => (any_index(), 0..5).prop_map(|(index, luck)| Command::Rerun(index, luck > 0)),
        2 => any_index().prop_map(Command::Cancel),
        1 => stage().prop_map(Command::Pause),
        1 => stage().prop_map(Command::Resume),
    ]
}

/// What the people of a story know: leases that somebody holds, those that ended, which a zombie may try to use,
/// uploads that were announced and did not come yet, and the stages that are paused.
#[derive(Default)]
struct Hands {
    held: Vec<Lease>,
    ended: Vec<Lease>,
    announced: Vec<(VideoId, usize)>,
    paused: BTreeSet<Stage>,
}

impl Hands {
    fn take(&mut self, index: Index) -> Option<Lease> {
        if self.held.is_empty() {
            return None;
        }
        let lease = self.held.swap_remove(index.index(self.held.len()));
        self.ended.push(lease);
        Some(lease)
    }

    /// Somebody took it out of their hands.
    fn lose(&mut self, job: JobId) {
        self.ended.extend(self.held.extract_if(.., |lease| lease.job == job));
    }
}

/// A job in one of these states, if there is any.
async fn job_among(world: &World, states: &[&str], index: Index) -> Option<JobId> {
    let jobs: Vec<Uuid> =
        sqlx::query_scalar("select id from jobs where state = any($1) order by id")
            .bind(states)
            .fetch_all(&world.pool)
            .await
            .expect("rows");
    (!jobs.is_empty()).then(|| JobId(jobs[index.index(jobs.len())]))
}

async fn let_run_out(world: &World, lease: &Lease, query: &'static str) {
    sqlx::query(query).bind(lease.job.0).execute(&world.pool).await.expect("run out");
    world.db.sweep(MAX_STRIKES).await.expect("a sweep");
}

/// What is counted against a job.
fn charges(job: &Value) -> [&Value; 3] {
    ["failures", "crashes", "lost_workers"].map(|count| &job[count])
}

fn stage_of(job: &Value) -> Stage {
    Stage::ALL.into_iter().find(|stage| job["stage"] == stage.as_str()).expect("a stage")
}

fn video_of(job: &Value) -> VideoId {
    VideoId(job["video_id"].as_str().expect("text").parse().expect("an id"))
}

async fn obey(world: &World, hands: &mut Hands, command: Command) {
    match command {
        Command::Upload(content) => {
            world.upload(content).await;
        }
        Command::Announce(content) => {
            hands.announced.push((world.announce(content).await, content));
        }
        Command::Arrive(index) => arrive(world, hands, index).await,
        Command::UrlsEnd => world.urls_end().await,
        Command::TellAgain(index) => world.tell_again(|length| index.index(length)).await,
        Command::Overwrite(index, content) => {
            world.overwrite(|length| index.index(length), content).await;
        }
        Command::Dispatch(stage) => {
            // Marked, and the hint is lost.
            let due = world.due(stage).await;
            assert!(due.is_empty() || !hands.paused.contains(&stage), "a paused queue dispatches");
        }
        Command::Claim(stage, index) => claim(world, hands, stage, index).await,
        Command::Finish(index) => {
            if let Some(lease) = hands.take(index) {
                assert!(world.finish(&lease).await, "a held lease can be finished");
            }
        }
        Command::Strike(index, crash) => {
            if let Some(lease) = hands.take(index) {
                let kind = if crash { Strike::Crash } else { Strike::Failure };
                world.strike(&lease, kind).await;
            }
        }
        Command::Fail(index, cause) => {
            if let Some(lease) = hands.take(index) {
                let failed = world.db.fail(&lease, cause, "no").await;
                assert_eq!(failed.expect("an answer"), Commit::Applied);
            }
        }
        Command::Release(index, delay) => {
            if let Some(lease) = hands.take(index) {
                let before = job_row(&world.pool, lease.job).await;
                let released = world.db.release(&lease, "away", delay).await;
                assert_eq!(released.expect("an answer"), Commit::Applied);
                let after = job_row(&world.pool, lease.job).await;
                assert_eq!(charges(&before), charges(&after), "an outage was charged to a job");
            }
        }
        Command::LoseWorker(index) => {
            if let Some(lease) = hands.take(index) {
                let query = "update jobs set lease_until = now() - interval '1 s' where id = $1";
                let_run_out(world, &lease, query).await;
            }
        }
        Command::Overrun(index) => {
            if let Some(lease) = hands.take(index) {
                let query = "update jobs set deadline_at = now() - interval '1 s' where id = $1";
                let_run_out(world, &lease, query).await;
            }
        }
        Command::LateCommit(index) => {
            if !hands.ended.is_empty() {
                let zombie = hands.ended[index.index(hands.ended.len())];
                assert!(!world.finish(&zombie).await, "a zombie's commit was accepted");
            }
        }
        Command::Sweep => {
            world.db.sweep(MAX_STRIKES).await.expect("a sweep");
        }
        Command::TimePasses => let_time_pass(&world.pool).await,
        Command::Rerun(index, bad) => rerun(world, index, bad).await,
        Command::Cancel(index) => cancel(world, hands, index).await,
        Command::Pause(stage) => {
            world.db.pause(stage, None).await.expect("paused");
            hands.paused.insert(stage);
        }
        Command::Resume(stage) => {
            let was_paused = world.db.resume(stage).await.expect("resumed");
            assert_eq!(was_paused, hands.paused.remove(&stage));
        }
    }
}

/// The row that waits for the object takes it, whatever became of its URL.
async fn arrive(world: &World, hands: &mut Hands, index: Index) {
    if hands.announced.is_empty() {
        return;
    }
    let (video, content) = hands.announced.swap_remove(index.index(hands.announced.len()));
    let came = world.put(&format!("raw-uploads/{video}.mp4"), content).await;
    assert_eq!(came, video, "an announced upload became another video");
}

async fn claim(world: &World, hands: &mut Hands, stage: Stage, index: Index) {
    let waiting: Vec<Uuid> = sqlx::query_scalar(
        "select id from jobs where state = 'pending' and stage = $1 order by id",
    )
    .bind(stage.as_str())
    .fetch_all(&world.pool)
    .await
    .expect("rows");
    if !waiting.is_empty() {
        let lease = world.claim(JobId(waiting[index.index(waiting.len())]), LEASE).await;
        assert!(lease.is_none() || !hands.paused.contains(&stage), "a paused stage begins work");
        hands.held.extend(lease);
    }
}

/// Runs again with a clean record, or is refused and unchanged. Never refused: what is dead of a ready video.
async fn rerun(world: &World, index: Index, bad: bool) {
    let states: &[&str] = if bad { &["dead", "cancelled"] } else { &["done"] };
    let Some(job) = job_among(world, states, index).await else { return };
    let before = job_row(&world.pool, job).await;
    let (video, stage) = (video_of(&before), stage_of(&before));
    let video_before = row(&world.pool, video).await;
    let ordered = world.db.rerun(video, stage).await.expect("an answer");
    let after = job_row(&world.pool, job).await;
    if matches!(ordered, Ordered::Done(_)) {
        assert_eq!((&after["state"], &after["attempt"]), (&"pending".into(), &before["attempt"]));
        assert_eq!(charges(&after), [&Value::from(0); 3]);
    } else {
        assert_eq!((before, video_before.clone()), (after, row(&world.pool, video).await));
        assert_ne!(
            (&video_before["state"], stage.number() > 1),
            (&"ready".into(), true),
            "{ordered:?}"
        );
    }
}

/// Always done, and whoever runs it has lost it.
async fn cancel(world: &World, hands: &mut Hands, index: Index) {
    let Some(job) = job_among(world, &["pending", "running"], index).await else { return };
    let before = job_row(&world.pool, job).await;
    let ordered = world.db.cancel(video_of(&before), stage_of(&before)).await.expect("an answer");
    assert!(matches!(ordered, Ordered::Done(_)), "{ordered:?}");
    assert_eq!(job_row(&world.pool, job).await["state"], "cancelled");
    hands.lose(job);
}

/// What is paused is resumed, and the uploads that never came do not come any more.
async fn end(world: &World) {
    for stage in Stage::ALL {
        world.db.resume(stage).await.expect("an answer");
    }
    world.drain().await;
    world.urls_end().await;
    world.assert_never_stuck().await;
    world.assert_ended().await;
}

#[test]
fn any_story_ends_with_every_video_in_an_end_state() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let test = runtime.block_on(database());
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let stories = proptest::collection::vec(command(), 20..100);
    let outcome = TestRunner::new(config).run(&stories, |story| {
        runtime.block_on(async {
            let world = World::new(&test.db, test.pool()).await;
            // One database for all stories: deleting rows is quicker than making databases.
            for table in
                ["delete from videos", "delete from paused_queues", "delete from ran_again"]
            {
                sqlx::query(table).execute(test.pool()).await.expect("emptied");
            }
            let mut hands = Hands::default();
            for command in story {
                obey(&world, &mut hands, command).await;
                world.assert_never_stuck().await;
            }
            end(&world).await;
        });
        Ok(())
    });
    outcome.expect("every story ends well");
    let _guard = runtime.enter();
    drop(test);
}
