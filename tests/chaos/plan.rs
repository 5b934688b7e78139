//! Which faults come, in which order, on whom: all of it from a seed, so that a printed seed replays the same plan.
//! Times are not in it: a fault comes when so many uploads have been made, on a machine of any speed.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// A kind of fault, in the order in which the phases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Fault {
    pub(crate) const ALL: [Fault; 10] = [
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
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Redis => "redis",
            Fault::Postgres => "postgres",
            Fault::Cut => "cut",
            Fault::Step => "step",
            Fault::Zombie => "zombie",
            Fault::Partition => "partition",
            Fault::Storage => "storage",
            Fault::Unheard => "unheard",
            Fault::Restart => "restart",
        }
    }

    /// What was done, for the report.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of workers and dispatchers",
            Fault::Redis => {
                "Redis: FLUSHALL, kill -9, restart empty, hung, READONLY, out of memory"
            }
            Fault::Postgres => "Postgres: immediate stop",
            Fault::Cut => "connection cut at a commit, before or after Postgres carried it out",
            Fault::Step => "kill -9 at a step boundary, before or after it",
            Fault::Zombie => "SIGSTOP beyond the lease, then SIGCONT",
            Fault::Partition => "worker cut off from Postgres for longer than a lease",
            Fault::Storage => {
                "MinIO: kill -9, hung, a PUT cut before or after MinIO carried it out"
            }
            Fault::Unheard => "upload without a webhook",
            Fault::Restart => "rolling restarts by SIGTERM",
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
            | Fault::Restart => Duration::from_secs(30),
        }
    }

    /// Injections and uploads at full scale.
    fn full(self, steps: usize) -> (usize, usize) {
        match self {
            Fault::Kill => (1_000, 10_000),
            Fault::Redis => (120, 3_000),
            Fault::Postgres => (20, 1_000),
            Fault::Cut => (1_000, 2_000),
            Fault::Step => (20 * steps, 20 * steps),
            // Each makes two.
            Fault::Zombie => (100, 2_000),
            Fault::Partition => (20, 20),
            Fault::Storage => (500, 1_000),
            Fault::Unheard => (1_000, 1_000),
            Fault::Restart => (200, 2_000),
        }
    }

    /// Below this a phase would not show its fault in all its variants.
    const fn least(self, steps: usize) -> usize {
        match self {
            Fault::Redis => 6,
            Fault::Storage => 4,
            Fault::Kill | Fault::Postgres | Fault::Partition | Fault::Zombie | Fault::Restart => 1,
            Fault::Cut | Fault::Unheard => 2,
            Fault::Step => steps,
        }
    }
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
    pub(crate) seed: u64,
    pub(crate) phases: Vec<Phase>,
}

impl Plan {
    pub(crate) fn new(seed: u64, scale: f64, faults: &[Fault], steps: usize) -> Self {
        let phase = |fault: &Fault| {
            // Of its own, so that leaving phases out does not change the others.
            let mut dice = fastrand::Rng::with_seed(seed ^ (*fault as u64) << 56);
            let (injections, uploads) = fault.full(steps);
            let count = scaled(injections, scale).max(fault.least(steps));
            let uploads = scaled(uploads, scale).max(count);
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
        Self { seed, phases: faults.iter().map(phase).collect() }
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
