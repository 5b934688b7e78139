//! Processes whose clock is wrong. Leases and times in rows are the database's: nobody loses a lease early or keeps one
//! too long because of it. Ten minutes, since MinIO refuses requests that are signed a quarter of an hour away from its time.

use std::time::Duration;

use futures_util::future::join_all;
use pipeline::clock;
use rustix::process::Signal;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::fleet::{Member, Role};
use crate::inject::{LONG_WORK, Strike, strike};
use crate::plan::{Fault, Injection};
use crate::worker::LONG;
use crate::world::World;

const OFF_MINUTES: i32 = 10;
/// How long work may take to begin, and a process to say what time it thinks it is.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

impl World {
    /// Turns the clocks of all daemons and of half of the workers; then a worker dies in the middle of long work.
    pub(crate) async fn turn_clocks(&self, injection: Injection) -> Vec<Strike> {
        let minutes = if injection.variant.is_multiple_of(2) { OFF_MINUTES } else { -OFF_MINUTES };
        let workers = self.fleet.of(Role::Worker);
        let mut turned = self.fleet.of(Role::Daemon);
        turned.extend(&workers[..workers.len() / 2]);
        start_all_at(&turned, minutes).await;
        self.feeder.upload(Fault::Clock, injection.uploads, "mp4").await;
        self.feeder.upload(Fault::Clock, 1, LONG).await;
        let Some(victim) = self.at_long_work(&workers, injection.victim).await else {
            start_all_at(&turned, 0).await;
            return vec![strike(Fault::Clock, "")];
        };
        let strike = strike(Fault::Clock, &victim.name);
        let held = self.held_by(&victim.name).await;
        victim.kill();
        victim.start();
        self.until_later_attempt(&held, "state = 'done'").await;
        start_all_at(&turned, 0).await;
        vec![strike]
    }

    /// No assertion: that nobody is left in peace with his work is what some defects look like, and the verdict tells of them.
    async fn at_long_work(&self, workers: &[&Member], choice: usize) -> Option<&Member> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE / 2 {
            let busy = self.busy_workers(workers, LONG_WORK).await;
            if let Some(victim) = busy.get(choice % busy.len().max(1)) {
                return Some(victim);
            }
            tokio::time::sleep(POLL).await;
        }
        None
    }

    /// Attempts that were taken from a worker that nobody had touched.
    pub(crate) async fn charged_by_clocks(&self, strikes: &[Strike]) -> Vec<String> {
        let struck: Vec<&str> = strikes.iter().map(|strike| strike.member.as_str()).collect();
        let killed = strikes.iter().any(|s| s.fault == Fault::Clock && !s.member.is_empty());
        let taken = sqlx::query_scalar(TAKEN).bind(struck).fetch_all(&self.pool).await;
        let mut taken: Vec<String> = taken.expect("an answer");
        if !killed {
            taken.push("nobody could be killed in the middle of long work".to_owned());
        }
        taken
    }
}

async fn start_all_at(members: &[&Member], minutes: i32) {
    join_all(members.iter().map(|member| start_at(member, minutes))).await;
}

/// Not before it is seen to live in that time.
async fn start_at(member: &Member, minutes: i32) {
    member.grown_up().await;
    member.signal(Signal::TERM);
    member.ended().await;
    member.set_clock(minutes);
    member.start();
    let (begun, off) = (Instant::now(), time::Duration::minutes(i64::from(minutes)));
    let is_off = |at: OffsetDateTime| (at - off - clock::now()).abs() < time::Duration::minutes(1);
    while !member.last_word_at().is_some_and(is_off) {
        let name = &member.name;
        assert!(begun.elapsed() < PATIENCE, "the clock of {name} is not {minutes} minutes off");
        tokio::time::sleep(POLL).await;
    }
}

const TAKEN: &str = "
select v.id || ' ' || r.stage || ': attempt ' || r.attempt || ' of ' || c.by || ' was ended by ' || r.by
  from chaos.uploads u join videos v on v.object_key = u.key
  join chaos.log c on c.video = v.id and c.event = 'claimed'
  join chaos.log r on r.job = c.job and r.attempt = c.attempt and r.n > c.n and r.event <> 'claimed' and r.by <> c.by
 where u.phase = 'clock' and c.by <> all($1)";
