//! How each fault is done. Every injection makes its uploads, so that there is work to hit, and notes when and on whom.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::fleet::{Member, Role, signal_by_id};
use crate::plan::{Fault, Injection};
use crate::proxy::{Moment, Proxy, Trap, Weather, Wire};
use crate::redis_away::Loss;
use crate::steps::Step;
use crate::worker::LONG;
use crate::world::World;

/// How long a fault may take to find its moment.
const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// How long a server is away, when it is not a matter of starting it again.
pub(crate) const OUTAGE: Duration = Duration::from_secs(3);
/// What a worker asks of MinIO for its results.
pub(crate) const PUT: &str = "PUT /clipstream/processed-videos/";
/// Uploads that may wait before more are made.
const OPEN: i64 = 60;

/// The first attempt of it, which lasts for several leases.
pub(crate) const LONG_WORK: &str = "j.stage = 'transcode' and j.attempt = 1
    and exists (select 1 from videos v where v.id = j.video_id and v.object_key like '%.mov')";

/// A fault that was done.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    pub(crate) at: OffsetDateTime,
    /// On whom; empty for a server.
    pub(crate) member: String,
    /// Of Redis.
    pub(crate) loss: Option<Loss>,
}

impl World {
    pub(crate) async fn inject(&mut self, fault: Fault, injection: Injection) -> Vec<Strike> {
        self.until_there_is_room().await;
        match fault {
            Fault::Kill => self.kill(injection).await,
            Fault::Redis => self.lose_redis(injection).await,
            Fault::Postgres => self.crash_postgres(injection).await,
            Fault::Cut => self.cut(injection).await,
            Fault::Step => self.kill_at_step(injection).await,
            Fault::Zombie => self.make_zombies(injection).await,
            Fault::Partition => self.partition(injection).await,
            Fault::Storage => self.break_storage(injection).await,
            Fault::Restart => self.restart(injection).await,
            Fault::Clock => self.turn_clocks(injection).await,
            Fault::Media => self.kill_at_work(injection).await,
            Fault::Unheard => {
                self.feeder.upload(fault, injection.uploads, "mp4").await;
                vec![strike(fault, "")]
            }
        }
    }

    async fn kill(&self, injection: Injection) -> Vec<Strike> {
        let victim = &self.fleet.members[injection.victim % self.fleet.members.len()];
        victim.grown_up().await;
        self.feeder.upload(Fault::Kill, injection.uploads, "mp4").await;
        let strike = strike(Fault::Kill, &victim.name);
        victim.kill();
        victim.start();
        vec![strike]
    }

    /// The next one goes only when this one is back, as a careful release does.
    async fn restart(&self, injection: Injection) -> Vec<Strike> {
        let member = &self.fleet.members[injection.variant % self.fleet.members.len()];
        member.grown_up().await;
        self.feeder.upload(Fault::Restart, injection.uploads, "mp4").await;
        let strike = strike(Fault::Restart, &member.name);
        member.signal(Signal::TERM);
        member.ended().await;
        member.start();
        vec![strike]
    }

    async fn crash_postgres(&mut self, injection: Injection) -> Vec<Strike> {
        let more = injection.uploads / 2;
        self.feeder.upload(Fault::Postgres, injection.uploads - more, "mp4").await;
        self.services.crash_postgres().await;
        // Webhooks come all the same.
        let (feeder, services) = (&self.feeder, &mut self.services);
        let recover = async {
            services.start_postgres().await;
            strike(Fault::Postgres, "")
        };
        let (strike, ()) = tokio::join!(recover, feeder.upload(Fault::Postgres, more, "mp4"));
        vec![strike]
    }

    async fn cut(&self, injection: Injection) -> Vec<Strike> {
        let moment =
            if injection.variant.is_multiple_of(2) { Moment::Before } else { Moment::After };
        let trap = Trap::new(&["set state = 'done'"], "", moment, |_| ());
        for member in self.fleet.of(Role::Worker) {
            member.postgres.arm(&trap);
        }
        let hit = self.until_sprung(Fault::Cut, &trap, injection.uploads, "mp4").await;
        vec![strike(Fault::Cut, &hit.name)]
    }

    async fn kill_at_step(&self, injection: Injection) -> Vec<Strike> {
        let step = self.settings.steps[injection.variant % self.settings.steps.len()];
        let members = self.fleet.grown_up(step.role).await;
        let pids = self.fleet.pids();
        let kill = move |owner| signal_by_id(&pids, owner, Signal::KILL);
        let trap = Trap::new(step.request, step.answer, step.moment, kill);
        for member in &members {
            step.proxy_of(member).arm(&trap);
        }
        let hit = self.until_sprung(Fault::Step, &trap, injection.uploads, step.source).await;
        let strike = strike(Fault::Step, &hit.name);
        hit.start();
        vec![strike]
    }

    /// Makes uploads until one of them has met the trap.
    pub(crate) async fn until_sprung(
        &self,
        fault: Fault,
        trap: &Arc<Trap>,
        mut uploads: usize,
        source: &'static str,
    ) -> &Member {
        let begun = Instant::now();
        let owner = loop {
            let (sprung, ()) = tokio::join!(
                tokio::time::timeout(Duration::from_secs(1), trap.sprung()),
                self.feeder.upload(fault, uploads, source)
            );
            if let Ok(owner) = sprung {
                break owner;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody ever came to {trap}");
            uploads = 1;
        };
        &self.fleet.members[owner]
    }

    /// Several at once, since each takes a lease: two anywhere in their work, two right before they put an object. The others
    /// of each group go on.
    async fn make_zombies(&self, injection: Injection) -> Vec<Strike> {
        self.feeder.upload(Fault::Zombie, injection.uploads, "mp4").await;
        let workers = self.fleet.of(Role::Worker);
        let mut groups = workers.chunks(workers.len() / 4);
        let mut group = || groups.next().expect("four groups");
        let (a, b, c, d) = tokio::join!(
            self.stop_at_work(injection, group()),
            self.stop_at_work(injection, group()),
            self.stop_at_put(group()),
            self.stop_at_put(group())
        );
        vec![a, b, c, d]
    }

    /// Wakes it while the next attempt of one of its jobs runs.
    async fn stop_at_work(&self, injection: Injection, among: &[&Member]) -> Strike {
        let begun = Instant::now();
        loop {
            assert!(
                begun.elapsed() < PATIENCE,
                "no worker could be stopped in the middle of a job"
            );
            let busy = self.busy_workers(among, "true").await;
            let Some(victim) = busy.get(injection.victim % busy.len().max(1)) else {
                self.feeder.upload(Fault::Zombie, 1, "mp4").await;
                continue;
            };
            let strike = strike(Fault::Zombie, &victim.name);
            victim.signal(Signal::STOP);
            // What it had sent before is answered or never was.
            tokio::time::sleep(POLL * 10).await;
            let held = self.held_by(&victim.name).await;
            if !held.is_empty() {
                self.until_later_attempt(&held, "true").await;
            }
            victim.signal(Signal::CONT);
            if !held.is_empty() {
                return strike;
            }
        }
    }

    /// Wakes it when a later attempt is done, whose objects it must not touch when it tries its own again.
    async fn stop_at_put(&self, among: &[&Member]) -> Strike {
        let pids = self.fleet.pids();
        let stop = move |owner| signal_by_id(&pids, owner, Signal::STOP);
        // Not a playlist at a fixed key: those have preconditions, and the witness of them is another.
        let trap = Trap::new(&[PUT, "/segments/"], "", Moment::Before, stop);
        for member in among {
            member.minio.arm(&trap);
        }
        let victim = self.until_sprung(Fault::Zombie, &trap, 1, "mp4").await;
        let strike = strike(Fault::Zombie, &victim.name);
        let held = self.held_by(&victim.name).await;
        self.until_later_attempt(&held, "state = 'done'").await;
        victim.signal(Signal::CONT);
        strike
    }

    /// Two at once, each in the middle of long work.
    async fn partition(&self, injection: Injection) -> Vec<Strike> {
        let workers = self.fleet.of(Role::Worker);
        let begun = Instant::now();
        let mut uploads = injection.uploads;
        let victims = loop {
            let mut busy = self.busy_workers(&workers, LONG_WORK).await;
            if busy.len() >= 2 {
                let first = injection.victim % busy.len();
                busy.rotate_left(first);
                busy.truncate(2);
                break busy;
            }
            assert!(begun.elapsed() < PATIENCE, "no two workers ever began the long work");
            // One worker may have taken all of it.
            self.feeder.upload(Fault::Partition, uploads, LONG).await;
            tokio::time::sleep(POLL * 50).await;
            uploads = 1;
        };
        join_all(victims.into_iter().map(|victim| self.cut_off(victim))).await
    }

    async fn cut_off(&self, victim: &Member) -> Strike {
        let strike = strike(Fault::Partition, &victim.name);
        victim.postgres.set_weather(Weather::Silent);
        let held = self.held_by(&victim.name).await;
        self.until_later_attempt(&held, "true").await;
        // Whoever did not stop by himself goes on visibly.
        tokio::time::sleep(self.settings.lease).await;
        victim.postgres.set_weather(Weather::Fair);
        strike
    }

    /// Workers that run a job of this kind.
    pub(crate) async fn busy_workers(&self, among: &[&Member], kind: &'static str) -> Vec<&Member> {
        let among: Vec<&str> = among.iter().map(|member| member.name.as_str()).collect();
        let query = format!(
            "select distinct l.by from jobs j join chaos.log l on l.job = j.id and l.event = 'claimed'
                    and l.attempt = j.attempt
              where j.state = 'running' and l.by = any($1) and {kind} order by 1"
        );
        let query = sqlx::query_scalar(AssertSqlSafe(query)).bind(among);
        let names: Vec<String> = query.fetch_all(&self.pool).await.expect("Postgres is up");
        names.iter().filter_map(|name| self.fleet.named(name)).collect()
    }

    /// Jobs that a worker runs, each with its attempt.
    pub(crate) async fn held_by(&self, name: &str) -> Vec<(Uuid, i32)> {
        sqlx::query_as(
            "select j.id, j.attempt from jobs j join chaos.log l on l.job = j.id and l.event = 'claimed'
                    and l.attempt = j.attempt and l.by = $1
              where j.state = 'running'",
        )
        .bind(name)
        .fetch_all(&self.pool)
        .await
        .expect("Postgres is up")
    }

    /// Until somebody else runs one of them, or has brought it to this state.
    pub(crate) async fn until_later_attempt(&self, held: &[(Uuid, i32)], state: &'static str) {
        let (ids, attempts): (Vec<_>, Vec<_>) = held.iter().copied().unzip();
        let query = format!(
            "select exists (select 1 from jobs j join unnest($1::uuid[], $2::int[]) h(id, attempt) using (id)
                             where j.attempt > h.attempt and {state})"
        );
        let begun = Instant::now();
        // No assertion: that nobody takes the job is what some defects look like, and the verdict tells of them.
        while begun.elapsed() < self.settings.lease + PATIENCE / 4 {
            let query = sqlx::query_scalar(AssertSqlSafe(query.clone())).bind(&ids).bind(&attempts);
            if query.fetch_one(&self.pool).await.expect("Postgres is up") {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn until_there_is_room(&self) {
        let begun = Instant::now();
        let made = i64::try_from(self.feeder.made()).expect("fewer");
        loop {
            let open = made
                - self.count("select count(*) from videos where state = 'ready'").await
                - self.count("select count(*) from chaos.uploads where not announced").await;
            // A defect may keep videos from ending: then the plan goes on all the same.
            if open < OPEN || begun.elapsed() > PATIENCE / 6 {
                return;
            }
            tokio::time::sleep(POLL * 5).await;
        }
    }
}

impl Step {
    fn proxy_of<'a>(&self, member: &'a Member) -> &'a Proxy {
        match self.wire {
            Wire::Postgres => &member.postgres,
            Wire::Redis => &member.redis,
            Wire::Http => &member.minio,
        }
    }
}

pub(crate) fn strike(fault: Fault, member: &str) -> Strike {
    Strike { fault, at: pipeline::clock::now(), member: member.to_owned(), loss: None }
}
