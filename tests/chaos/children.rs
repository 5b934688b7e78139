//! The media children of our daemons, seen from outside in /proc: which there are, whether one is still there after its
//! parent was killed, and whether a secret is in what a child was started with.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Short beside the life of a child, and cheap. A child hides what it was started with as soon as it is caged, from all
/// but root: whoever is not root sees only those that he meets before.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// A process: numbers are given again, so its start belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId {
    pid: u32,
    started: u64,
}

/// What /proc/…/stat says of a process.
struct Stat {
    parent: u32,
    gone: bool,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            gone: matches!(*fields.first()?, "Z" | "X"),
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

impl ProcessId {
    pub(crate) fn is_there(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && !stat.gone)
    }
}

/// Media children of these processes, and whatever those started themselves.
pub(crate) fn children_of(parents: &[u32]) -> Vec<ProcessId> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let mut family: BTreeSet<u32> = parents.iter().copied().collect();
    let mut children = BTreeSet::new();
    // Once more for each generation.
    loop {
        let known = children.len();
        for (pid, stat) in &all {
            if family.contains(&stat.parent) && !stat.gone && is_media_child(*pid) {
                family.insert(*pid);
                children.insert(ProcessId { pid: *pid, started: stat.started });
            }
        }
        if children.len() == known {
            return children.into_iter().collect();
        }
    }
}

/// Between fork and exec it still looks like its parent.
fn is_media_child(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).nth(1) == Some(b"media-child")
}

/// Looks into every media child that it meets, in a thread of its own, until it is dropped.
pub(crate) struct Lookout {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    parents: Vec<u32>,
    looked_into: BTreeSet<ProcessId>,
    secrets: BTreeSet<ProcessId>,
}

impl Lookout {
    pub(crate) fn start(secrets: Vec<String>) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let parents = lock(&theirs).parents.clone();
                for child in children_of(&parents) {
                    look(child, &secrets, &mut lock(&theirs));
                }
                std::thread::sleep(LOOK_PERIOD);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Whose children these are now.
    pub(crate) fn watch(&self, parents: Vec<u32>) {
        lock(&self.seen).parents = parents;
    }

    /// How many children it could look into, and how many of them held a secret.
    pub(crate) fn seen(&self) -> (usize, usize) {
        let seen = lock(&self.seen);
        (seen.looked_into.len(), seen.secrets.len())
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it looks and does not panic");
        }
    }
}

fn look(child: ProcessId, secrets: &[String], seen: &mut Seen) {
    if seen.looked_into.contains(&child) {
        return;
    }
    let Ok(environment) = fs::read(format!("/proc/{}/environ", child.pid)) else { return };
    let Ok(command) = fs::read(format!("/proc/{}/cmdline", child.pid)) else { return };
    // An end in between reads as nothing at all.
    if !child.is_there() {
        return;
    }
    seen.looked_into.insert(child);
    let holds = |text: &[u8], secret: &String| {
        text.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    if secrets.iter().any(|secret| holds(&environment, secret) || holds(&command, secret)) {
        seen.secrets.insert(child);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
