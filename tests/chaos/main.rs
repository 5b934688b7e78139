//! Nothing is lost: real servers, real processes, and faults on them from a seed; then a count of what was lost,
//! duplicated, or written by an attempt that had lost its lease.
//!
//! `cargo test --test chaos` runs it small, `make chaos` in full. Arguments choose phases by name; a printed seed replays
//! the same plan. The binary is also the worker that gets killed.

mod feeder;
mod fleet;
mod inject;
mod plan;
mod proxy;
mod report;
mod services;
mod steps;
mod verdict;
mod worker;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use fleet::{Member, Settings};
use plan::{Fault, Plan};
use report::Run;
use steps::STEPS;
use verdict::Verdict;
use world::World;

/// The word that makes this binary a worker.
const WORKER: &str = "worker-process";

#[derive(Parser)]
struct Args {
    /// Replays the plan of an earlier run
    #[arg(long, env = "CHAOS_SEED")]
    seed: Option<u64>,
    /// Of the full number of faults and uploads
    #[arg(long, env = "CHAOS_SCALE", default_value_t = 0.05)]
    scale: f64,
    /// Short, so that losing one takes no time; production's default is 15
    #[arg(long, env = "CHAOS_LEASE_SECONDS", default_value_t = 3)]
    lease_seconds: u64,
    /// Only the step boundaries whose name holds this
    #[arg(long, env = "CHAOS_STEP", default_value = "")]
    step: String,
    /// Where the report goes
    #[arg(long, env = "CHAOS_REPORT")]
    report: Option<PathBuf>,
    /// Phases, by name; all when there is none. What cargo passes to other test binaries is not looked at
    #[arg(allow_hyphen_values = true)]
    phases: Vec<String>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        runtime.block_on(worker::run());
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    let faults: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| {
            let mut names = args.phases.iter().filter(|name| !name.starts_with('-')).peekable();
            names.peek().is_none() || names.any(|name| name == fault.as_str())
        })
        .collect();
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    runtime.block_on(run(&args, &faults))
}

#[expect(clippy::print_stderr, reason = "this is what a run says")]
async fn run(args: &Args, faults: &[Fault]) -> ExitCode {
    let begun = Instant::now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let steps: Vec<_> = STEPS.iter().filter(|step| step.name.contains(&args.step)).collect();
    assert!(!steps.is_empty(), "no step is called {:?}", args.step);
    let plan = Plan::new(seed, args.scale, faults, steps.len());
    eprintln!("\nchaos: CHAOS_SEED={seed} CHAOS_SCALE={} (plan {})", args.scale, plan.digest());
    let lease = Duration::from_secs(args.lease_seconds);
    let mut world = World::new(Settings { seed, lease, workers: 4, daemons: 2, steps }).await;
    let strikes = world.carry_out(&plan).await;
    world.quiesce().await;
    let verdicts = world.verdict(&strikes).await;
    let run = Run {
        seed: plan.seed,
        scale: args.scale,
        plan: plan.digest(),
        lease_s: args.lease_seconds,
        took_s: begun.elapsed().as_secs(),
        races: world.feeder.races(),
        unkept: world.feeder.unkept(),
        refused: world.fleet.members.iter().map(Member::refusals).sum(),
    };
    if let Some(directory) = &args.report {
        run.write(&verdicts, directory);
    }
    verdicts.iter().for_each(tell);
    let failed = verdicts.iter().filter(|verdict| !verdict.is_clean()).count();
    let mut ok = failed == 0;
    if run.unkept > 0 {
        eprintln!("{} webhook calls were answered 200 without a row", run.unkept);
        ok = false;
    }
    // A run in which no zombie came as far as a write shows nothing about zombies.
    eprintln!("chaos: {} attempts were refused because their lease was lost", run.refused);
    ok &= run.refused > 0 || !faults.contains(&Fault::Zombie);
    let (passed, result) = (verdicts.len() - failed, if ok { "ok" } else { "FAILED" });
    eprintln!("\ntest result: {result}. {passed} passed, {failed} failed; {} s", run.took_s);
    if ok {
        return ExitCode::SUCCESS;
    }
    let logs = world.directory.path().to_owned();
    world.directory.disable_cleanup(true);
    eprintln!(
        "replay: CHAOS_SEED={seed} CHAOS_SCALE={}; the logs are in {}",
        args.scale,
        logs.display()
    );
    ExitCode::FAILURE
}

impl World {
    #[expect(clippy::print_stderr, reason = "this is what a run says")]
    async fn carry_out(&mut self, plan: &Plan) -> Vec<inject::Strike> {
        let mut strikes = Vec::new();
        // First, so that they grow old while the others run: young objects are left to their webhook.
        let (unheard, others): (Vec<_>, Vec<_>) =
            plan.phases.iter().partition(|phase| phase.fault == Fault::Unheard);
        for phase in unheard.into_iter().chain(others) {
            let begun = Instant::now();
            for injection in &phase.injections {
                strikes.extend(self.inject(phase.fault, *injection).await);
            }
            let (name, count) = (phase.fault.as_str(), phase.injections.len());
            eprintln!("chaos: {name}: {count} done in {} s", begun.elapsed().as_secs());
        }
        strikes
    }
}

#[expect(clippy::print_stderr, reason = "this is what a run says")]
fn tell(verdict: &Verdict) {
    let Verdict { fault, runs, uploads, lost, duplicated, late_writes, charged, .. } = verdict;
    let result = if verdict.is_clean() { "ok" } else { "FAILED" };
    let [p50, p99, max] = verdict.quantiles().map(Option::unwrap_or_default);
    eprintln!(
        "test {fault} ... {result} ({runs} faults, {uploads} uploads: {lost} lost, {duplicated} duplicated, {late_writes} late, {charged} charged; \
         recovery p50 {p50:.2} s, p99 {p99:.2} s, max {max:.2} s)"
    );
    for breach in verdict.breaches.iter().take(10) {
        eprintln!("    {breach}");
    }
}
