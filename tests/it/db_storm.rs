//! The same promise with everybody at work at once.

use std::time::Duration;

use pipeline::db::Strike;
use pipeline::stage::Stage;
use tokio::task::JoinSet;

use crate::db_actors::let_time_pass;
use crate::db_world::{CONTENTS, World};
use crate::support::database;

/// Eight workers at once, each with its misfortunes, and two sweepers. Leases are short, so that slow workers lose
/// them too.
#[tokio::test(flavor = "multi_thread")]
async fn workers_at_once_lose_nothing_and_do_nothing_twice() {
    let test = database().await;
    let world = World::new(&test.db, test.pool()).await;
    for upload in 0..40 {
        world.upload(upload % CONTENTS.len()).await;
    }
    let mut workers = JoinSet::new();
    for seed in 1..=8_u64 {
        let world = world.clone();
        workers.spawn(async move {
            let mut dice = Dice(seed);
            while world.open_jobs().await > 0 {
                let stage = Stage::ALL[dice.roll(4)];
                let marked = world.db.dispatched(stage, Duration::from_millis(50)).await;
                world.db.undispatch(&marked.expect("marks")).await.expect("a count");
                for job in world.db.due(stage, 3).await.expect("due") {
                    let Some(lease) = world.claim(job, Duration::from_millis(300)).await else {
                        continue;
                    };
                    match dice.roll(20) {
                        0 => world.strike(&lease, Strike::Failure).await,
                        1 => world.strike(&lease, Strike::Crash).await,
                        2 => {
                            world
                                .db
                                .release(&lease, "away", Duration::ZERO)
                                .await
                                .expect("an answer");
                        }
                        // The worker is gone.
                        3 => {}
                        4 => {
                            // Twice: the second commit comes too late.
                            world.finish(&lease).await;
                            assert!(!world.finish(&lease).await);
                        }
                        _ => {
                            world.finish(&lease).await;
                        }
                    }
                }
            }
        });
    }
    for seed in 100..=101 {
        let world = world.clone();
        workers.spawn(async move {
            let mut dice = Dice(seed);
            while world.open_jobs().await > 0 {
                world.db.sweep(100).await.expect("a sweep");
                let_time_pass(&world.pool).await;
                world.tell_again(|length| dice.roll(length)).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.expect("no worker panics");
    }
    world.assert_ended().await;
}

/// Xorshift: the same luck in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("below the sides")
    }
}
