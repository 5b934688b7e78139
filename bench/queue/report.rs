//! `bench/results/queue.{md,json}`: the figures with what they were measured on.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: &'static str,
    at_once: usize,
    of_what: &'static str,
    per_second: f64,
    pgbench_per_second: f64,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        what: &'static str,
        at_once: usize,
        of_what: &'static str,
        per_second: f64,
        pgbench_per_second: f64,
    ) {
        tracing::info!(what, at_once, per_second, pgbench_per_second, "measured");
        self.rows.push(Row { what, at_once, of_what, per_second, pgbench_per_second });
    }

    pub(crate) fn write(&self) -> Result<(), Box<dyn Error>> {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
        let commit = said_by("git", &["rev-parse", "--short", "HEAD"])?;
        let machine = format!(
            "{} cores, {}, Linux {}",
            std::thread::available_parallelism()?,
            std::env::consts::ARCH,
            said_by("uname", &["-r"])?
        );
        let build = if cfg!(debug_assertions) { "dev" } else { "release" };
        let command = "make bench-queue";
        let mut page = format!(
            "# What the queue costs\n\n\
             Commit {commit}, {build} build, {machine}. Command: `{command}`.\n\n\
             A *job cycle* is everything that happens to a job whose stage does nothing: dispatch, Redis, claim, lease, fenced commit.\n\
             A *webhook delivery* is one HTTP request that is answered after its commit. Postgres syncs to disk. *pgbench* sends only the\n\
             bare statements behind it (two commits for a cycle, one for a delivery), to the same server in the same run, with as many\n\
             clients as we have at work, at most one for each of our 20 connections. Slots are those of each of the four stages.\n\n\
             | | at once | a second | pgbench, a second | ratio |\n|---|---|---|---|---|\n"
        );
        let mut rows = Vec::new();
        for row in &self.rows {
            let Row { what, at_once, of_what, per_second, pgbench_per_second } = row;
            let ratio = per_second / pgbench_per_second;
            writeln!(
                page,
                "| {what} | {at_once} {of_what} | {per_second:.0} | {pgbench_per_second:.0} | {ratio:.2} |"
            )?;
            rows.push(json!({
                "what": what, "at_once": at_once, "of_what": of_what, "per_second": per_second.round(),
                "pgbench_per_second": pgbench_per_second.round(), "ratio": (ratio * 100.0).round() / 100.0,
            }));
        }
        let data = json!({
            "commit": commit, "build": build, "machine": machine, "command": command, "rows": rows,
        });
        fs::create_dir_all(&results)?;
        fs::write(results.join("queue.md"), page)?;
        fs::write(results.join("queue.json"), format!("{data:#}\n"))?;
        Ok(())
    }
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
