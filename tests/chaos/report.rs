//! What a run found, for people on the terminal and in Markdown, and for programs in JSON.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::verdict::Verdict;

/// Where and how a run was made.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) scale: f64,
    pub(crate) plan: String,
    pub(crate) worlds: usize,
    pub(crate) lease_s: u64,
    pub(crate) took_s: u64,
    pub(crate) races: u64,
    pub(crate) unkept: u64,
    pub(crate) refused: usize,
}

impl Run {
    /// `chaos.md` and `chaos.json` in the directory.
    pub(crate) fn write(&self, verdicts: &[Verdict], directory: &Path) {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join("chaos.md"), self.markdown(verdicts)).expect("written");
        fs::write(directory.join("chaos.json"), self.json(verdicts)).expect("written");
    }

    /// Makes the same run again.
    pub(crate) fn command(&self) -> String {
        format!(
            "CHAOS_SEED={} CHAOS_SCALE={} CHAOS_WORLDS={} CHAOS_LEASE_SECONDS={} make chaos",
            self.seed, self.scale, self.worlds, self.lease_s
        )
    }

    fn markdown(&self, verdicts: &[Verdict]) -> String {
        let mut text = format!(
            "# Faults\n\nCommit {}, {}. Command: `{}` (plan {}, {} worlds at once, leases of {} s, {} s in all).\n\n\
             Stages pretend but in the last row; Postgres, Redis, MinIO, the daemons and the runner of the workers are real. *Lost*: an \
             upload that does not end `ready` with its four stages done, and with real media one with an output that does not open. *Duplicated*: two videos or two results of one upload, or an \
             object of another attempt than the row's. *Late*: a write of an attempt that was not the row's. *Charged*: a failure or crash \
             that a job says it had and that was the fault's. *Recovery*: from the fault, or the end of an outage, until what it hit goes on, per job. Webhooks that the reconciler's statement ran \
             into: {}. Webhook calls answered 200 without a row: {}. Attempts \
             refused because their lease was lost: {}.\n\n\
             | fault | runs | uploads | lost | duplicated | late_writes | charged | recovery_p50_s | recovery_p99_s | recovery_max_s |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            commit(),
            machine(),
            self.command(),
            self.plan,
            self.worlds,
            self.lease_s,
            self.took_s,
            self.races,
            self.unkept,
            self.refused
        );
        for verdict in verdicts {
            let told = verdict.fault.kind().told;
            let Verdict { runs, uploads, lost, duplicated, late_writes, charged, .. } = verdict;
            let [p50, p99, max] = in_words(&verdict.recovery_s);
            writeln!(
                text,
                "| {told} | {runs} | {uploads} | {lost} | {duplicated} | {late_writes} | {charged} | {p50} | {p99} | {max} |"
            )
            .expect("a string takes everything");
        }
        text.push_str(
            "\n| time | samples | p50_s | p99_s | max_s | limit_s |\n|---|---|---|---|---|---|\n",
        );
        for figure in verdicts.iter().flat_map(|verdict| &verdict.figures) {
            let [p50, p99, max] = in_words(&figure.took_s);
            let (name, samples, limit) = (figure.name, figure.took_s.len(), figure.limit_s);
            writeln!(text, "| {name} | {samples} | {p50} | {p99} | {max} | {limit} |")
                .expect("a string takes everything");
        }
        text
    }

    fn json(&self, verdicts: &[Verdict]) -> String {
        let faults: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                let mut fault = serde_json::to_value(verdict).expect("plain numbers");
                let [p50, p99, max] = quantiles(&verdict.recovery_s);
                let jobs = verdict.recovery_s.len();
                fault["recovery_s"] = json!({ "jobs": jobs, "p50": p50, "p99": p99, "max": max });
                for (told, figure) in
                    fault["figures"].as_array_mut().into_iter().flatten().zip(&verdict.figures)
                {
                    let [p50, p99, max] = quantiles(&figure.took_s);
                    let samples = figure.took_s.len();
                    told["took_s"] =
                        json!({ "samples": samples, "p50": p50, "p99": p99, "max": max });
                }
                fault
            })
            .collect();
        let report = json!({
            "commit": commit(),
            "machine": machine(),
            "command": self.command(),
            "seed": self.seed,
            "scale": self.scale,
            "plan": self.plan,
            "worlds": self.worlds,
            "lease_s": self.lease_s,
            "took_s": self.took_s,
            "races": self.races,
            "accepted_without_a_row": self.unkept,
            "refused_attempts": self.refused,
            "faults": faults,
        });
        serde_json::to_string_pretty(&report).expect("plain values") + "\n"
    }
}

/// p50, p99, max of what is sorted.
pub(crate) fn quantiles(sorted: &[f64]) -> [Option<f64>; 3] {
    let at = |percent: usize| {
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
    };
    [at(50), at(99), sorted.last().copied()]
}

fn in_words(sorted: &[f64]) -> [String; 3] {
    quantiles(sorted)
        .map(|value| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}")))
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {}, Linux {}", std::env::consts::ARCH, kernel.trim())
}
