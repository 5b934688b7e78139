//! The promise of the whole: any mix of arrivals, repeats, strikes, lost workers and late commits ends, for every video,
//! in `ready`, `duplicate` or `failed`, and never in between.

use pipeline::db::{Commit, Strike};
use pipeline::job::{JobId, Lease};
use pipeline::stage::Stage;
use pipeline::video::FailureCause;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::db_actors::{LEASE, let_time_pass};
use crate::db_world::{CONTENTS, MAX_STRIKES, SECOND, World};
use crate::support::database;

#[derive(Debug, Clone)]
enum Command {
    Upload(usize),
    TellAgain(Index),
    Dispatch(Stage),
    Claim(Stage, Index),
    Finish(Index),
    Strike(Index, bool),
    Fail(Index),
    Release(Index),
    LoseWorker(Index),
    LateCommit(Index),
    Sweep,
    TimePasses,
}

fn command() -> impl Strategy<Value = Command> {
    let stage = || proptest::sample::select(Stage::ALL.to_vec());
    let any_index = any::<Index>;
    prop_oneof![
        4 => (0..CONTENTS.len()).prop_map(Command::Upload),
        1 => any_index().prop_map(Command::TellAgain),
        1 => stage().prop_map(Command::Dispatch),
        8 => (stage(), any_index()).prop_map(|(stage, index)| Command::Claim(stage, index)),
        8 => any_index().prop_map(Command::Finish),
        2 => (any_index(), any::<bool>()).prop_map(|(index, crash)| Command::Strike(index, crash)),
        1 => any_index().prop_map(Command::Fail),
        1 => any_index().prop_map(Command::Release),
        2 => any_index().prop_map(Command::LoseWorker),
        1 => any_index().prop_map(Command::LateCommit),
        2 => Just(Command::Sweep),
        2 => Just(Command::TimePasses),
    ]
}

/// Leases that somebody holds, and those that ended, which a zombie may try to use.
#[derive(Default)]
struct Hands {
    held: Vec<Lease>,
    ended: Vec<Lease>,
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
}

async fn obey(world: &World, hands: &mut Hands, command: Command) {
    match command {
        Command::Upload(content) => world.upload(content).await,
        Command::TellAgain(index) => world.tell_again(|length| index.index(length)).await,
        Command::Dispatch(stage) => {
            // Marked, and the hint is lost.
            world.due(stage).await;
        }
        Command::Claim(stage, index) => {
            let due: Vec<uuid::Uuid> = sqlx::query_scalar(
                "select id from jobs where state = 'pending' and stage = $1 order by id",
            )
            .bind(stage.as_str())
            .fetch_all(&world.pool)
            .await
            .expect("rows");
            if !due.is_empty() {
                let lease = world.claim(JobId(due[index.index(due.len())]), LEASE).await;
                hands.held.extend(lease);
            }
        }
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
        Command::Fail(index) => {
            if let Some(lease) = hands.take(index) {
                let failed = world.db.fail(&lease, FailureCause::Corrupt, "no").await;
                assert_eq!(failed.expect("an answer"), Commit::Applied);
            }
        }
        Command::Release(index) => {
            if let Some(lease) = hands.take(index) {
                let released = world.db.release(&lease, "away", SECOND).await;
                assert_eq!(released.expect("an answer"), Commit::Applied);
            }
        }
        Command::LoseWorker(index) => {
            if let Some(lease) = hands.take(index) {
                sqlx::query("update jobs set lease_until = now() - interval '1 s' where id = $1 and state = 'running'")
                    .bind(lease.job.0)
                    .execute(&world.pool)
                    .await
                    .expect("lost");
                world.db.sweep(MAX_STRIKES).await.expect("a sweep");
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
    }
}

#[test]
fn any_story_ends_with_every_video_in_an_end_state() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let test = runtime.block_on(database());
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let stories = proptest::collection::vec(command(), 1..60);
    let outcome = TestRunner::new(config).run(&stories, |story| {
        runtime.block_on(async {
            // One database for all stories: deleting rows is quicker than making databases.
            sqlx::query("delete from videos").execute(test.pool()).await.expect("emptied");
            let world = World::new(&test.db, test.pool());
            let mut hands = Hands::default();
            for command in story {
                obey(&world, &mut hands, command).await;
            }
            world.drain().await;
            world.assert_ended().await;
        });
        Ok(())
    });
    outcome.expect("every story ends well");
    let _guard = runtime.enter();
    drop(test);
}
