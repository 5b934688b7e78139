//! Processor time by program, of this process and all that it started: what a cycle costs, also on a machine that has
//! something else to do.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

/// Linux counts in hundredths of a second wherever we run.
const TICKS_A_SECOND: u64 = 100;

/// Processor time since each process began, by its program's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage(BTreeMap<String, Duration>);

impl Usage {
    pub(crate) fn now() -> Self {
        let processes: HashMap<u32, Process> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|id: u32| Some((id, Process::read(id)?)))
            .collect();
        let ours = std::process::id();
        let started_by_us = |mut id: u32| loop {
            if id == ours {
                return true;
            }
            match processes.get(&id) {
                Some(process) if process.parent != 0 => id = process.parent,
                _ => return false,
            }
        };
        let mut usage = BTreeMap::new();
        for (&id, process) in processes.iter().filter(|&(&id, _)| started_by_us(id)) {
            let name = if id == ours { "clipstream" } else { process.name.as_str() };
            *usage.entry(name.to_owned()).or_insert(Duration::ZERO) += process.time;
        }
        Self(usage)
    }

    /// What this program has used since then.
    pub(crate) fn since(&self, then: &Self, program: &str) -> Duration {
        let of = |usage: &Self| usage.0.get(program).copied().unwrap_or_default();
        of(self).saturating_sub(of(then))
    }
}

struct Process {
    name: String,
    parent: u32,
    time: Duration,
}

impl Process {
    /// `None`: it has just ended.
    fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name is in parentheses and may hold anything, spaces too.
        let (name, rest) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat[rest + 1..].split_ascii_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
        let time = Duration::from_millis((ticks(11)? + ticks(12)?) * 1_000 / TICKS_A_SECOND);
        Some(Self {
            name: stat[name + 1..rest].to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            time,
        })
    }
}
