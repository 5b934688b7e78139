//! Which sources are on this host, who uses them, and how long one stays that nobody uses: the next stage of its video, or
//! the next attempt, usually comes within seconds. What is idle is bounded in bytes and in time, and goes oldest first.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::SourceFile;
use super::blocks::Blocks;
use crate::media::InputError;
use crate::stages::faults::{overwritten, scratch_failed};
use crate::stages::scratch::ScratchFile;
use crate::storage::{ObjectVersion, Storage};
use crate::video::{Source, VideoId};

/// What may lie on scratch without a user.
#[derive(Debug, Clone, Copy)]
pub struct IdleBudget {
    pub bytes: u64,
    pub age: Duration,
}

impl Default for IdleBudget {
    fn default() -> Self {
        Self { bytes: 4 * 1024 * 1024 * 1024, age: Duration::from_mins(5) }
    }
}

/// The sources of one scratch directory.
pub(in crate::stages) struct Shelf {
    budget: IdleBudget,
    held: HashMap<VideoId, Held>,
    /// Ends by itself when nothing is held.
    sweeper: JoinSet<()>,
}

struct Held {
    blocks: Arc<Blocks>,
    users: usize,
    /// Since when there are no users; counts only then.
    idle_since: Instant,
}

impl Shelf {
    pub(in crate::stages) fn new(budget: IdleBudget) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { budget, held: HashMap::new(), sweeper: JoinSet::new() }))
    }

    /// The source for one more user: what is here of it, or an empty file for what will be.
    pub(in crate::stages) fn take(
        shared: &Arc<Mutex<Self>>,
        storage: &Storage,
        source: Source,
        object: ObjectVersion,
        file: impl FnOnce() -> ScratchFile,
    ) -> Result<SourceFile, InputError> {
        let mut this = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let here = this.held.get_mut(&source.video).filter(|held| held.blocks.of(&object));
        let blocks = if let Some(held) = here {
            if held.blocks.size_bytes() != object.size_bytes {
                return Err(overwritten());
            }
            held.users += 1;
            Arc::clone(&held.blocks)
        } else {
            let new = |blocks| Held { blocks, users: 1, idle_since: Instant::now() };
            let blocks = Blocks::create(storage.clone(), object, file()).map(Arc::new);
            let blocks = blocks.map_err(|error: io::Error| scratch_failed(&error))?;
            this.held.insert(source.video, new(Arc::clone(&blocks)));
            blocks
        };
        this.keep_swept(shared);
        Ok(SourceFile { source, blocks, shelf: Arc::downgrade(shared) })
    }

    /// One user less.
    pub(super) fn put_back(&mut self, video: VideoId, blocks: &Arc<Blocks>) {
        // Another version of the object may have taken its place.
        if let Some(held) = self.held.get_mut(&video).filter(|h| Arc::ptr_eq(&h.blocks, blocks)) {
            held.users -= 1;
            held.idle_since = Instant::now();
        }
        self.sweep();
    }

    /// What the sources occupy on scratch, used or idle.
    pub(in crate::stages) fn held_bytes(&self) -> u64 {
        self.held.values().map(|held| held.blocks.held_bytes()).sum()
    }

    fn sweep(&mut self) {
        let (now, budget) = (Instant::now(), self.budget);
        self.held.retain(|_, held| held.users > 0 || now - held.idle_since < budget.age);
        let idle = |(video, held): (&VideoId, &Held)| {
            (held.users == 0).then(|| (held.idle_since, *video, held.blocks.held_bytes()))
        };
        let mut idle: Vec<_> = self.held.iter().filter_map(idle).collect();
        idle.sort_unstable_by_key(|(since, ..)| *since);
        let mut bytes: u64 = idle.iter().map(|(.., bytes)| bytes).sum();
        for (_, video, freed) in idle {
            if bytes <= budget.bytes {
                break;
            }
            self.held.remove(&video);
            bytes -= freed;
        }
    }

    fn keep_swept(&mut self, shared: &Arc<Mutex<Self>>) {
        while self.sweeper.try_join_next().is_some() {}
        if self.sweeper.is_empty() {
            let (shared, pause) = (Arc::downgrade(shared), self.budget.age / 4);
            self.sweeper.spawn(sweep_now_and_then(shared, pause));
        }
    }
}

async fn sweep_now_and_then(shared: Weak<Mutex<Shelf>>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut shelf = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.sweep();
        if shelf.held.is_empty() {
            return;
        }
    }
}
