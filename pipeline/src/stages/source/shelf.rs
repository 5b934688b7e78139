//! Which sources are on this host, who uses them, and how long one stays that nobody uses: the next stage of its video, or
//! the next attempt, usually comes within seconds. What is idle is bounded in bytes and in time, and goes oldest first.
//! Nothing here touches a file: what goes is handed out, and its file is removed when that is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::SourceFile;
use super::blocks::Blocks;
use crate::storage::ObjectVersion;
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
pub(super) struct Shelf {
    pub(super) budget: IdleBudget,
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

/// Blocks that left the shelf. Whoever drops them removes their files.
pub(super) type Gone = Vec<Arc<Blocks>>;

pub(super) fn lock(shared: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    pub(super) fn new(budget: IdleBudget) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { budget, held: HashMap::new(), sweeper: JoinSet::new() }))
    }

    /// The source for one more user, if it is here.
    pub(super) fn take(
        shared: &Arc<Mutex<Self>>,
        source: &Source,
        object: &ObjectVersion,
    ) -> Option<SourceFile> {
        let mut this = lock(shared);
        let held = this.held.get_mut(&source.video).filter(|held| held.blocks.of(object))?;
        held.users += 1;
        let (source, blocks) = (source.clone(), Arc::clone(&held.blocks));
        Some(SourceFile { source, blocks, shelf: Arc::downgrade(shared) })
    }

    /// The first user of new blocks. What was here of the same video is of another object.
    pub(super) fn put(shared: &Arc<Mutex<Self>>, source: Source, blocks: Blocks) -> SourceFile {
        let blocks = Arc::new(blocks);
        let held = Held { blocks: Arc::clone(&blocks), users: 1, idle_since: Instant::now() };
        let replaced = {
            let mut this = lock(shared);
            this.keep_swept(shared);
            this.held.insert(source.video, held)
        };
        super::remove(replaced.map(|held| held.blocks).into_iter().collect());
        SourceFile { source, blocks, shelf: Arc::downgrade(shared) }
    }

    /// One user less.
    pub(super) fn put_back(&mut self, video: VideoId, blocks: &Arc<Blocks>) -> Gone {
        // Another version of the object may have taken its place.
        if let Some(held) = self.held.get_mut(&video).filter(|h| Arc::ptr_eq(&h.blocks, blocks)) {
            held.users -= 1;
            held.idle_since = Instant::now();
        }
        self.sweep()
    }

    /// These are not what they should be: nobody else gets them.
    pub(super) fn give_up(&mut self, video: VideoId, blocks: &Arc<Blocks>) -> Option<Arc<Blocks>> {
        self.held.get(&video).filter(|held| Arc::ptr_eq(&held.blocks, blocks))?;
        self.held.remove(&video).map(|held| held.blocks)
    }

    /// Whatever has been idle for the longest time.
    pub(super) fn evict_oldest(&mut self) -> Option<Arc<Blocks>> {
        let (video, _) = self.oldest_idle()?;
        self.held.remove(&video).map(|held| held.blocks)
    }

    /// What the sources occupy on scratch, used or idle.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.values().map(|held| held.blocks.size_bytes()).sum()
    }

    /// What comes back when the attempts that run now have ended.
    pub(super) fn used_bytes(&self) -> u64 {
        let used = self.held.values().filter(|held| held.users > 0);
        used.map(|held| held.blocks.size_bytes()).sum()
    }

    fn oldest_idle(&self) -> Option<(VideoId, Instant)> {
        let idle = self.held.iter().filter(|(_, held)| held.users == 0);
        idle.map(|(video, held)| (*video, held.idle_since)).min_by_key(|(_, since)| *since)
    }

    fn sweep(&mut self) -> Gone {
        let mut gone = Vec::new();
        while let Some((_, since)) = self.oldest_idle() {
            let idle_bytes = self.held_bytes() - self.used_bytes();
            if since.elapsed() < self.budget.age && idle_bytes <= self.budget.bytes {
                break;
            }
            gone.extend(self.evict_oldest());
        }
        gone
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
        let (gone, empty) = {
            let mut shelf = lock(&shared);
            (shelf.sweep(), shelf.held.is_empty())
        };
        super::remove(gone);
        if empty {
            return;
        }
    }
}
