//! Nothing is lost: real servers, real processes, and faults on them from a seed; then a count of what was lost,
//! duplicated, or written by an attempt that had lost its lease.
//!
//! `cargo test --test chaos` runs it small, `make chaos` in full. Arguments choose phases by name; a printed seed replays
//! the same plan. Phases may be shared out over several worlds that live at the same time. The binary is also the worker that gets killed.

mod children;
mod clip;
mod clock;
mod feeder;
mod fleet;
mod inject;
mod media;
mod minio_away;
mod opened;
mod plan;
#[path = "../proxy/mod.rs"]
#[expect(dead_code, reason = "the integration tests count and cut bytes, this does not")]
mod proxy;
mod redis_away;
mod report;
#[path = "../it/s3_client.rs"]
#[expect(dead_code, reason = "of the integration tests' client this only needs to put")]
mod s3_client;
mod services;
mod steps;
mod verdict;
mod worker;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::join_all;

use fleet::Settings;
use plan::{Fault, Plan};
use report::{Run, quantiles};
use steps::STEPS;
use verdict::Verdict;
use world::{Findings, World};

/// The word that makes this binary a worker.
const WORKER: &str = "worker-process";

/// How long Redis is away once, at full scale and below.
const LONG_OUTAGE: Duration = Duration::from_mins(10);
const SHORT_OUTAGE: Duration = Duration::from_secs(5);

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
    /// That live at the same time, each with servers of its own and a share of the phases
    #[arg(long, env = "CHAOS_WORLDS", default_value_t = 1)]
    worlds: usize,
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
    let digest = plan.digest();
    let lease = Duration::from_secs(args.lease_seconds);
    let parts = plan.split(args.worlds);
    eprintln!(
        "\nchaos: CHAOS_SEED={seed} CHAOS_SCALE={} CHAOS_WORLDS={} (plan {digest})",
        args.scale, args.worlds
    );
    let long_outage = if args.scale < 1.0 { SHORT_OUTAGE } else { LONG_OUTAGE };
    let mut lives = Vec::new();
    let mut real = Vec::new();
    for (number, phases) in (0..).zip(parts) {
        let (seed, steps) = (seed + number, steps.clone());
        let settings =
            Settings { seed, lease, long_outage, workers: 8, daemons: 2, wholes: 0, steps };
        if phases.iter().all(|phase| phase.fault == Fault::Media) {
            // Real work keeps all cores busy: a heartbeat may be late by more than a second.
            let lease = lease.max(Duration::from_secs(5));
            real.push((Settings { lease, workers: 0, daemons: 0, wholes: 3, ..settings }, phases));
        } else {
            lives.push(World::live(settings, phases));
        }
    }
    // A world that panics ends the run.
    let mut findings: Vec<Findings> = join_all(lives).await;
    // Afterwards, or its recovery would be a matter of who has the cores.
    for (settings, phases) in real {
        findings.push(World::live(settings, phases).await);
    }
    let mut verdicts: Vec<Verdict> =
        findings.iter_mut().flat_map(|found| std::mem::take(&mut found.verdicts)).collect();
    verdicts.sort_by_key(|verdict| verdict.fault as u64);
    let run = Run {
        seed,
        scale: args.scale,
        plan: digest,
        worlds: args.worlds,
        lease_s: args.lease_seconds,
        took_s: begun.elapsed().as_secs(),
        races: findings.iter().map(|found| found.races).sum(),
        unkept: findings.iter().map(|found| found.unkept).sum(),
        refused: findings.iter().map(|found| found.refused).sum(),
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
    eprintln!("chaos: {} webhooks raced with the reconciler", run.races);
    ok &= args.scale < 1.0 || faults.len() < Fault::ALL.len() || run.races >= 10_000;
    ok &= run.refused > 0 || !faults.contains(&Fault::Zombie);
    let (passed, result) = (verdicts.len() - failed, if ok { "ok" } else { "FAILED" });
    eprintln!("\ntest result: {result}. {passed} passed, {failed} failed; {} s", run.took_s);
    if ok {
        return ExitCode::SUCCESS;
    }
    let logs = findings.into_iter().map(|found| found.files.keep().display().to_string());
    eprintln!("replay: {}; the logs are in {}", run.command(), logs.collect::<Vec<_>>().join(", "));
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "this is what a run says")]
fn tell(verdict: &Verdict) {
    let Verdict { runs, uploads, lost, duplicated, late_writes, charged, .. } = verdict;
    let result = if verdict.is_clean() { "ok" } else { "FAILED" };
    let [p50, p99, max] = quantiles(&verdict.recovery_s).map(Option::unwrap_or_default);
    let fault = verdict.fault.as_str();
    eprintln!(
        "test {fault} ... {result} ({runs} faults, {uploads} uploads: {lost} lost, {duplicated} duplicated, {late_writes} late, {charged} charged; \
         recovery p50 {p50:.2} s, p99 {p99:.2} s, max {max:.2} s)"
    );
    for figure in &verdict.figures {
        let [p50, p99, max] = quantiles(&figure.took_s).map(Option::unwrap_or_default);
        eprintln!("    {}: p50 {p50:.2} s, p99 {p99:.2} s, max {max:.2} s", figure.name);
    }
    for breach in verdict.breaches.iter().take(10) {
        eprintln!("    {breach}");
    }
}
