//! Room on the file system of scratch: what is free, what must stay free, and whether one more source fits.
//!
//! A source is allocated whole before its first byte is fetched: the file system itself keeps what was promised, also from
//! other processes and across a crash, which leaves a directory that the next process removes. Only sounds, whose length
//! nobody knows before, are promised by word and within this process; the floor covers what is wrong with that.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::blocks::blocking;
use super::shelf::{IdleBudget, Shelf, lock};
use crate::media::InputError;
use crate::metrics;
use crate::stages::faults::scratch_failed;

/// The floor where none is set: a tenth of the file system, and no more than this.
const USUAL_FLOOR_BYTES: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// What a file system has, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What must stay free.
    pub floor_bytes: u64,
}

/// Why something does not fit, which says what may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stages) enum Lack {
    /// It will once what runs in this process has ended.
    Ours,
    /// Others occupy the file system, or it is below its floor.
    Others,
    /// The whole file system is too small.
    Never,
}

/// So many bytes do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MiB are needed on scratch, {} of {} MiB are free there and {} must stay so",
    .needed_bytes / MIB, .space.free_bytes / MIB, .space.total_bytes / MIB, .space.floor_bytes / MIB
)]
pub(in crate::stages) struct NoRoom {
    pub(in crate::stages) lack: Lack,
    needed_bytes: u64,
    space: Space,
}

impl Space {
    /// Of the file system that this directory is on.
    pub fn of(directory: &std::path::Path, floor_bytes: Option<u64>) -> io::Result<Self> {
        let found = rustix::fs::statvfs(directory)?;
        let total_bytes = found.f_blocks * found.f_frsize;
        Ok(Self {
            total_bytes,
            free_bytes: found.f_bavail * found.f_frsize,
            floor_bytes: floor_bytes.unwrap_or(USUAL_FLOOR_BYTES.min(total_bytes / 10)),
        })
    }

    fn fits(&self, bytes: u64) -> bool {
        self.free_bytes >= bytes.saturating_add(self.floor_bytes)
    }

    /// Why `bytes` do not fit beside what was promised. `used_bytes` come back when what runs here has ended.
    fn lack(&self, bytes: u64, promised_bytes: u64, used_bytes: u64) -> Option<Lack> {
        let all_free = Self { free_bytes: self.total_bytes, ..*self };
        let ours_ended = Self { free_bytes: self.free_bytes.saturating_add(used_bytes), ..*self };
        if self.fits(bytes.saturating_add(promised_bytes)) {
            None
        } else if !all_free.fits(bytes) {
            Some(Lack::Never)
        } else if ours_ended.fits(bytes) {
            Some(Lack::Ours)
        } else {
            Some(Lack::Others)
        }
    }
}

pub(in crate::stages) struct Room {
    directory: PathBuf,
    floor_bytes: Option<u64>,
    pub(super) shelf: Arc<Mutex<Shelf>>,
    /// What sounds may still need.
    promised_bytes: AtomicU64,
    /// What a refused job waits for. Nothing else is begun until it fits, so that small sources never starve a large one.
    awaited_bytes: AtomicU64,
    /// Whether the last who looked found that nothing can be begun.
    full: AtomicBool,
    /// One after the other, so that two do not take the same room.
    pub(super) making: tokio::sync::Mutex<()>,
}

impl Room {
    pub(in crate::stages) fn new(
        directory: PathBuf,
        floor_bytes: Option<u64>,
        budget: IdleBudget,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory,
            floor_bytes,
            shelf: Shelf::new(budget),
            promised_bytes: AtomicU64::new(0),
            awaited_bytes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            making: tokio::sync::Mutex::new(()),
        })
    }

    pub(in crate::stages) fn with_floor(&self, floor_bytes: Option<u64>) -> Arc<Self> {
        Self::new(self.directory.clone(), floor_bytes, lock(&self.shelf).budget)
    }

    pub(in crate::stages) fn with_idle_budget(&self, budget: IdleBudget) -> Arc<Self> {
        Self::new(self.directory.clone(), self.floor_bytes, budget)
    }

    /// What the sources occupy, used or idle.
    pub(in crate::stages) fn source_bytes(&self) -> u64 {
        lock(&self.shelf).held_bytes()
    }

    pub(in crate::stages) fn space(&self) -> io::Result<Space> {
        Space::of(&self.directory, self.floor_bytes)
    }

    /// Whether the last who looked found that nothing can be begun.
    pub(in crate::stages) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Lets idle sources go, oldest first, until `bytes` fit. Files are removed: not to be called on the runtime's threads.
    /// `own_bytes` are what who asks uses itself, and cannot wait for.
    pub(super) fn make(&self, bytes: u64, own_bytes: u64) -> io::Result<Result<(), NoRoom>> {
        loop {
            let space = self.space()?;
            let promised = self.promised_bytes.load(Ordering::Relaxed);
            let used = lock(&self.shelf).used_bytes().saturating_sub(own_bytes);
            let Some(lack) = space.lack(bytes, promised, used) else { return Ok(Ok(())) };
            let oldest = if lack == Lack::Never { None } else { lock(&self.shelf).evict_oldest() };
            if oldest.is_none() {
                return Ok(Err(NoRoom { lack, needed_bytes: bytes, space }));
            }
        }
    }

    /// A job cannot have its room. Where that is for our own jobs, nothing new is begun before it can.
    pub(in crate::stages) fn refused(&self, refusal: &NoRoom) {
        metrics::SCRATCH_REFUSALS.add(1);
        if refusal.lack == Lack::Ours {
            self.awaited_bytes.fetch_max(refusal.needed_bytes, Ordering::Relaxed);
        }
    }

    /// Whether a job may be begun: more than the floor is free, and enough for the one that waits.
    pub(in crate::stages) async fn is_there(self: &Arc<Self>) -> bool {
        let mut needed = self.awaited_bytes.load(Ordering::Relaxed);
        let refusal = loop {
            match self.look(needed, 0).await {
                // It would wait for others, and others must not wait for it.
                Ok(Err(NoRoom { lack: Lack::Others | Lack::Never, .. })) if needed > 0 => {
                    needed = 0;
                }
                Ok(Err(refusal)) => break Some(refusal),
                // What is wrong with scratch is for a job to say: as an outage, and not for ever in silence.
                Ok(Ok(())) | Err(_) => break None,
            }
        };
        if refusal.is_none() || needed == 0 {
            // A refusal at this very moment is forgotten too: its job comes again and is refused again.
            self.awaited_bytes.store(0, Ordering::Relaxed);
        }
        self.tell(refusal);
        refusal.is_none()
    }

    /// At its cheapest one system call.
    async fn look(
        self: &Arc<Self>,
        bytes: u64,
        own_bytes: u64,
    ) -> Result<Result<(), NoRoom>, InputError> {
        let promised = self.promised_bytes.load(Ordering::Relaxed);
        if self.space().is_ok_and(|space| space.fits(bytes.saturating_add(promised))) {
            return Ok(Ok(()));
        }
        let room = Arc::clone(self);
        blocking(move || room.make(bytes, own_bytes)).await
    }

    /// On a change only.
    fn tell(&self, refusal: Option<NoRoom>) {
        let was_full = self.full.swap(refusal.is_some(), Ordering::Relaxed);
        match refusal {
            Some(refusal) if !was_full => {
                tracing::warn!(%refusal, "no new jobs until there is room on scratch");
            }
            None if was_full => tracing::info!("there is room on scratch again, claiming jobs"),
            Some(_) | None => {}
        }
    }

    /// Keeps room by word for something that grows beside `own_bytes`. A guess is no reason to say that it could never fit:
    /// no more is asked for than there can be.
    pub(in crate::stages) async fn promise(
        self: &Arc<Self>,
        guess_bytes: u64,
        own_bytes: u64,
    ) -> Result<Result<Promise, NoRoom>, InputError> {
        let _one = self.making.lock().await;
        let space = self.space().map_err(|error| scratch_failed(&error))?;
        let most = space.total_bytes.saturating_sub(space.floor_bytes.saturating_add(own_bytes));
        let bytes = guess_bytes.min(most);
        Ok(self.look(bytes, own_bytes).await?.map(|()| {
            self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
            Promise { room: Arc::clone(self), bytes }
        }))
    }
}

/// Room for something that grows, until this is dropped. What was written is counted twice meanwhile: too careful by that.
pub(in crate::stages) struct Promise {
    room: Arc<Room>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.room.promised_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_apart_by_what_may_help() {
        let space = |free_bytes| Space { total_bytes: 100, free_bytes, floor_bytes: 10 };
        for (free, needed, promised, used, lack) in [
            (100, 90, 0, 0, None),
            (100, 91, 0, 0, Some(Lack::Never)),
            (50, 40, 0, 0, None),
            (50, 40, 1, 0, Some(Lack::Ours)),
            (50, 41, 0, 0, Some(Lack::Others)),
            (50, 41, 0, 1, Some(Lack::Ours)),
            (9, 0, 0, 0, Some(Lack::Others)),
            (10, 0, 0, 0, None),
            (50, u64::MAX, u64::MAX, u64::MAX, Some(Lack::Never)),
        ] {
            let seen = space(free).lack(needed, promised, used);
            assert_eq!(seen, lack, "{needed} of {free}, {promised} promised, {used} used");
        }
    }
}
