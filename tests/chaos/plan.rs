//! Which faults come, in which order, on whom: all of it from a seed, so that a printed seed replays the same plan.
//! Times are not in it: a fault comes when so many uploads have been made, on a machine of any speed.

use std::cmp::Reverse;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{minio_away, redis_away};

/// A kind of fault, in the order in which the phases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// kill -9 of workers and dispatchers.
    Kill,
    /// Redis killed, emptied, or started again without its files.
    Redis,
    /// Postgres stopped without a checkpoint, and started again.
    Postgres,
    /// The connection breaks at a commit: before Postgres has it, or after and before the answer.
    Cut,
    /// kill -9 at each boundary of a job's path.
    Step,
    /// SIGSTOP for longer than a lease, then SIGCONT while the next attempt runs.
    Zombie,
    /// A worker that no longer reaches Postgres, in the middle of long work.
    Partition,
    /// MinIO killed, hung, or cut off in the middle of a PUT.
    Storage,
    /// Uploads that no webhook announces, made before everything else.
    Unheard,
    /// SIGTERM, one after another: a release. After everything else, since nothing may be charged to a job.
    Restart,
    /// A wrong clock in all daemons and half of the workers.
    Clock,
    /// kill -9 of whole daemons in the middle of real media, in a world of their own.
    Media,
}

impl Fault {
    pub(crate) const ALL: [Fault; 12] = [
        Fault::Kill,
        Fault::Redis,
        Fault::Postgres,
        Fault::Cut,
        Fault::Step,
        Fault::Zombie,
        Fault::Partition,
        Fault::Storage,
        Fault::Unheard,
        Fault::Restart,
        Fault::Clock,
        Fault::Media,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        self.kind().name
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Fault::Kill => Kind {
                name: "kill",
                told: "kill -9 of workers and dispatchers",
                injections: 1_000,
                uploads: 10_000,
                least: 1,
                seconds: 600,
            },
            Fault::Redis => Kind {
                name: "redis",
                told: "Redis: FLUSHALL, kill -9, restart empty; hung, READONLY, OOM, MISCONF, SCRIPT FLUSH, away for long",
                // 63 losses of data among them.
                injections: 99,
                uploads: 1_500,
                least: redis_away::WAYS,
                seconds: 800,
            },
            Fault::Postgres => Kind {
                name: "postgres",
                told: "Postgres: immediate stop",
                injections: 20,
                uploads: 1_000,
                least: 1,
                seconds: 70,
            },
            Fault::Cut => Kind {
                name: "cut",
                told: "connection cut at a commit, before or after Postgres carried it out",
                injections: 2_000,
                uploads: 2_000,
                least: 2,
                seconds: 200,
            },
            Fault::Step => Kind {
                name: "step",
                told: "kill -9 at a step boundary, before or after it",
                // At each of them.
                injections: 20,
                uploads: 20,
                least: 1,
                seconds: 700,
            },
            Fault::Zombie => Kind {
                name: "zombie",
                told: "SIGSTOP beyond the lease, then SIGCONT",
                // Each makes four.
                injections: 50,
                uploads: 1_000,
                least: 1,
                seconds: 1_000,
            },
            Fault::Partition => Kind {
                name: "partition",
                told: "worker cut off from Postgres for longer than a lease",
                // Each makes two.
                injections: 10,
                uploads: 20,
                least: 1,
                seconds: 350,
            },
            Fault::Storage => Kind {
                name: "storage",
                told: "MinIO: kill -9, hung, 1 KB/s, late, HTTP 500 and 503; a PUT cut before, in or after it, a GET cut in its answer",
                injections: 100,
                uploads: 600,
                least: minio_away::WAYS,
                seconds: 300,
            },
            Fault::Unheard => Kind {
                name: "unheard",
                told: "upload without a webhook",
                injections: 1_000,
                uploads: 1_000,
                least: 2,
                seconds: 120,
            },
            Fault::Restart => Kind {
                name: "restart",
                told: "rolling restarts by SIGTERM",
                injections: 200,
                uploads: 1_000,
                least: 1,
                seconds: 500,
            },
            Fault::Clock => Kind {
                name: "clock",
                told: "clock ten minutes fast or slow, and kill -9 of a worker",
                injections: 10,
                uploads: 200,
                least: 2,
                seconds: 400,
            },
            Fault::Media => Kind {
                name: "media",
                told: "kill -9 in the middle of real media, all outputs opened",
                injections: 100,
                uploads: 150,
                least: 1,
                seconds: 500,
            },
        }
    }

    /// What the p99 of recovery may be.
    pub(crate) fn limit(self, lease: Duration) -> Duration {
        match self {
            // Others take over while it lasts.
            Fault::Partition => lease * 2 + Duration::from_secs(10),
            Fault::Unheard => Duration::from_mins(2),
            Fault::Kill
            | Fault::Redis
            | Fault::Postgres
            | Fault::Cut
            | Fault::Step
            | Fault::Zombie
            | Fault::Storage
            | Fault::Restart
            | Fault::Clock
            | Fault::Media => Duration::from_secs(30),
        }
    }
}

/// What a fault is, in a run of full scale.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What was done, for the report.
    pub(crate) told: &'static str,
    injections: usize,
    uploads: usize,
    /// Injections that show it in all its variants.
    least: usize,
    /// About what it takes with leases of 15 s on two cores: worlds are filled by it.
    seconds: u32,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Injection {
    /// Chooses the victim among those that there are.
    pub(crate) victim: usize,
    /// Chooses among the ways of the fault.
    pub(crate) variant: usize,
    /// Uploads made for it.
    pub(crate) uploads: usize,
}

#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) fault: Fault,
    pub(crate) injections: Vec<Injection>,
}

#[derive(Debug)]
pub(crate) struct Plan {
    phases: Vec<Phase>,
}

impl Plan {
    pub(crate) fn new(seed: u64, scale: f64, faults: &[Fault], steps: usize) -> Self {
        let phase = |fault: &Fault| {
            // Of its own, so that leaving phases out does not change the others.
            let mut dice = fastrand::Rng::with_seed(seed ^ (*fault as u64) << 56);
            let kind = fault.kind();
            let times = if *fault == Fault::Step { steps } else { 1 };
            let count = scaled(kind.injections * times, scale).max(kind.least * times);
            let uploads = scaled(kind.uploads * times, scale).max(count);
            let injection = |number| Injection {
                victim: dice.usize(..),
                variant: number,
                uploads: uploads * (number + 1) / count - uploads * number / count,
            };
            let mut injections: Vec<Injection> = (0..count).map(injection).collect();
            // Every variant as often as the others, in an order of the dice.
            let mut variants: Vec<usize> = (0..count).collect();
            dice.shuffle(&mut variants);
            for (injection, variant) in injections.iter_mut().zip(variants) {
                injection.variant = variant;
            }
            Phase { fault: *fault, injections }
        };
        Self { phases: faults.iter().map(phase).collect() }
    }

    /// Its phases for so many worlds that live at the same time, each with about the same to do. Within a world uploads
    /// without a webhook come first, so that they grow old while the others run.
    pub(crate) fn split(self, worlds: usize) -> Vec<Vec<Phase>> {
        // Real stages need another witness than pretended ones.
        let (real, mut phases): (Vec<_>, Vec<_>) =
            self.phases.into_iter().partition(|phase| phase.fault == Fault::Media);
        phases.sort_by_key(|phase| Reverse(phase.fault.kind().seconds));
        let mut split: Vec<Vec<Phase>> = (0..worlds.max(1)).map(|_| Vec::new()).collect();
        for phase in phases {
            let load = |world: &&mut Vec<Phase>| -> u32 {
                world.iter().map(|phase| phase.fault.kind().seconds).sum()
            };
            if let Some(world) = split.iter_mut().min_by_key(load) {
                world.push(phase);
            }
        }
        for world in &mut split {
            world.sort_by_key(|phase| (phase.fault != Fault::Unheard, phase.fault as u64));
        }
        split.push(real);
        split.retain(|world| !world.is_empty());
        split
    }

    /// Eight digits that are the same for the same plan.
    pub(crate) fn digest(&self) -> String {
        hex::encode(&Sha256::digest(format!("{self:?}"))[..4])
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of thousands times a scale from 0 to 1"
)]
fn scaled(count: usize, scale: f64) -> usize {
    (count as f64 * scale).round() as usize
}
