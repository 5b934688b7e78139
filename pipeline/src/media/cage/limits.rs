//! What the process may use up: past a bound the kernel refuses, or ends it, and nobody else is slowed down.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Bounds;
use crate::media::cores;

/// More address space than any file within the limits needs: past it an allocation fails and the child ends.
const MOST_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// A transcode has two or three threads for each core, and each of them reserves a stack and an arena that it hardly uses.
const RESERVED_BYTES_PER_CORE: u64 = 256 * 1024 * 1024;
/// Its three, and one that Landlock needs for a moment.
const MOST_DESCRIPTORS: u64 = 4;
/// Threads of a large transcode on a large machine.
const MOST_THREADS: u64 = 1024;
/// Between the signal that can be told from other deaths and the one that cannot be ignored.
const CPU_GRACE_SECONDS: u64 = 5;

/// `alone`: in a user namespace of its own, where nobody else's processes count. Elsewhere the number of processes is
/// not bounded here: the bound counts all processes of the user, and seccomp lets none be made anyway.
pub(super) fn set(bounds: Bounds, alone: bool) -> Result<(), String> {
    let memory_bytes = MOST_MEMORY_BYTES + RESERVED_BYTES_PER_CORE * cores::count() as u64;
    bound(Resource::As, "memory", memory_bytes)?;
    bound(Resource::Cpu, "CPU", bounds.cpu_seconds.saturating_add(CPU_GRACE_SECONDS))?;
    soften(Resource::Cpu, "CPU", bounds.cpu_seconds)?;
    // It writes to its pipes only, which this does not count.
    bound(Resource::Fsize, "file size", 0)?;
    bound(Resource::Nofile, "descriptors", MOST_DESCRIPTORS)?;
    // A core file would hold somebody's pictures.
    bound(Resource::Core, "core", 0)?;
    bound(Resource::Memlock, "locked memory", 0)?;
    if alone {
        bound(Resource::Nproc, "threads", MOST_THREADS)?;
    }
    Ok(())
}

/// Both bounds, never above what already holds.
fn bound(resource: Resource, name: &str, most: u64) -> Result<(), String> {
    let found = getrlimit(resource);
    let most = found.maximum.map_or(most, |maximum| maximum.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        .map_err(|errno| format!("{name}: {errno}"))
}

fn soften(resource: Resource, name: &str, most: u64) -> Result<(), String> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(most, |maximum| maximum.min(most)));
    setrlimit(resource, Rlimit { current, maximum }).map_err(|errno| format!("{name}: {errno}"))
}
