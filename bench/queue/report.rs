//! `bench/results/queue.{md,json}`: the figures with what they were measured on.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cycles::Cycles;
use crate::fairness::{CROWD, Crowded, Seen};
use crate::mix::{AT_ONCE, CALLS, Mixed};
use crate::waits::Waits;

const COMMAND: &str = "make bench-queue";

#[derive(Default)]
pub(crate) struct Report {
    rates: Vec<Rate>,
    waits: Vec<Wait>,
    /// Sentences with a figure that is neither.
    remarks: Vec<String>,
}

struct Rate {
    what: &'static str,
    at_once: String,
    per_second: f64,
    pgbench_per_second: f64,
}

struct Wait {
    what: String,
    of: usize,
    /// p50, p99, longest.
    ms: [f64; 3],
}

impl Report {
    pub(crate) fn rate(
        &mut self,
        what: &'static str,
        at_once: String,
        per_second: f64,
        pgbench_per_second: f64,
    ) {
        tracing::info!(what, at_once, per_second, pgbench_per_second, "measured");
        self.rates.push(Rate { what, at_once, per_second, pgbench_per_second });
    }

    pub(crate) fn cycles(&mut self, slots: usize, cycles: &Cycles, pgbench_per_second: f64) {
        let Cycles { jobs_per_second, cpu_ms, postgres_cpu_ms } = cycles;
        self.rate("job cycles", format!("{slots} slots"), *jobs_per_second, pgbench_per_second);
        self.remark(format!(
            "A cycle with {slots} slots takes {cpu_ms:.2} ms of processor time, {postgres_cpu_ms:.2} ms of it in Postgres."
        ));
    }

    pub(crate) fn waits(&mut self, what: impl Into<String>, waits: &Waits) {
        let (what, ms) = (what.into(), [50, 99, 100].map(|percent| waits.percentile_ms(percent)));
        tracing::info!(
            what,
            of = waits.count(),
            p50_ms = ms[0],
            p99_ms = ms[1],
            max_ms = ms[2],
            "measured"
        );
        self.waits.push(Wait { what, of: waits.count(), ms });
    }

    pub(crate) fn mixed(&mut self, mixed: &Mixed) {
        self.waits("webhook calls that were accepted, in the mix", &mixed.accepted);
        self.waits("webhook calls that were refused, in the mix", &mixed.refused);
        self.remark(format!(
            "The mix is {CALLS} calls over {AT_ONCE} connections, {:.0} a second: duplicates, replays, events out of order, garbage, \
             bodies of 1.2 MB, callers without the token. Each got its status, and the rows are those of the objects.",
            mixed.calls_per_second
        ));
    }

    pub(crate) fn fairness(&mut self, alone: &Seen, crowded: &Crowded) {
        let with = format!("beside {CROWD} clips of one owner");
        let pairs = [
            ("begun", &alone.begun, &crowded.seen.begun),
            ("ready", &alone.ready, &crowded.seen.ready),
        ];
        for (end, alone, crowded) in pairs {
            self.waits(format!("90 clips of 9 owners until {end}, alone"), alone);
            self.waits(format!("90 clips of 9 owners until {end}, {with}"), crowded);
            self.remark(format!(
                "Until {end}, the p99 of the 90 is {:.2} times what it is without the {CROWD}.",
                crowded.percentile_ms(99) / alone.percentile_ms(99)
            ));
        }
        self.remark(format!(
            "The last clip in the line of the {CROWD} was begun {:.0} ms after it got a priority of 1: it overtook {}. That one that has \
             waited ten minutes longer goes first all the same: `a_priority_is_a_head_start_and_starves_nobody` (tests/it/db_dispatch.rs).",
            crowded.urgent_s * 1_000.0,
            crowded.overtaken
        ));
    }

    fn remark(&mut self, sentence: String) {
        tracing::info!("{sentence}");
        self.remarks.push(sentence);
    }

    pub(crate) fn write(&self) -> Result<(), Box<dyn Error>> {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
        let commit = said_by("git", &["describe", "--always", "--dirty"])?;
        let machine = format!(
            "{} cores, {}, Linux {}",
            std::thread::available_parallelism()?,
            std::env::consts::ARCH,
            said_by("uname", &["-r"])?
        );
        let build = if cfg!(debug_assertions) { "dev" } else { "release" };
        let data = json!({
            "commit": commit, "build": build, "machine": machine, "command": COMMAND,
            "rates": self.rates.iter().map(Rate::document).collect::<Vec<_>>(),
            "waits": self.waits.iter().map(Wait::document).collect::<Vec<_>>(),
            "remarks": self.remarks,
        });
        fs::create_dir_all(&results)?;
        fs::write(results.join("queue.md"), self.page(&commit, build, &machine)?)?;
        fs::write(results.join("queue.json"), format!("{data:#}\n"))?;
        Ok(())
    }

    fn page(&self, commit: &str, build: &str, machine: &str) -> Result<String, std::fmt::Error> {
        let mut page = format!(
            "# What the queue costs\n\n\
             Commit {commit}, {build} build, {machine}. Command: `{COMMAND}`.\n\n\
             A *job cycle* is everything that happens to a job whose stage does nothing: dispatch, Redis, claim, lease, fenced commit.\n\
             A *webhook delivery* is one HTTP request that is answered after its commit. Postgres syncs to disk. *pgbench* sends only the\n\
             bare statements behind it (two commits for a cycle, one for a delivery), to the same server in the same run, with as many\n\
             clients as we have at work, at most one for each of our 20 connections. Slots are those of each of the four stages.\n\n\
             | | at once | a second | pgbench, a second | ratio |\n|---|---|---|---|---|\n"
        );
        for rate in &self.rates {
            let Rate { what, at_once, per_second, pgbench_per_second } = rate;
            let ratio = rate.ratio();
            writeln!(
                page,
                "| {what} | {at_once} | {per_second:.0} | {pgbench_per_second:.0} | {ratio:.2} |"
            )?;
        }
        write!(
            page,
            "\nFor the waits, 8 slots of each stage are at work and a stage takes 50 ms (idle workers: nothing).\n\n\
             | wait | of | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|\n"
        )?;
        for Wait { what, of, ms: [p50, p99, longest] } in &self.waits {
            writeln!(page, "| {what} | {of} | {p50:.1} | {p99:.1} | {longest:.1} |")?;
        }
        writeln!(page)?;
        for remark in &self.remarks {
            writeln!(page, "- {remark}")?;
        }
        Ok(page)
    }
}

impl Rate {
    fn ratio(&self) -> f64 {
        self.per_second / self.pgbench_per_second
    }

    fn document(&self) -> Value {
        json!({
            "what": self.what, "at_once": self.at_once, "per_second": self.per_second.round(),
            "pgbench_per_second": self.pgbench_per_second.round(), "ratio": rounded(self.ratio(), 100.0),
        })
    }
}

impl Wait {
    fn document(&self) -> Value {
        let [p50, p99, longest] = self.ms.map(|ms| rounded(ms, 10.0));
        json!({ "what": self.what, "of": self.of, "p50_ms": p50, "p99_ms": p99, "longest_ms": longest })
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
