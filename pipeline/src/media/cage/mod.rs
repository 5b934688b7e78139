//! The cage of the media child: what a file that takes libav over finds itself in. Entered after exec of our own binary,
//! before any thread exists and before the first byte of media is read; it is never left.
//!
//! Each layer works alone, so a kernel that lacks one still has the others, and says so: [`enter`] tries all of them and
//! answers what holds. Whether that is enough is decided by [`Sandbox`], in the child and again in its parent.
//!
//! | layer | stops |
//! |---|---|
//! | process | outliving the parent, new privileges, inherited descriptors, being read by others of its user |
//! | limits | memory, CPU, files, descriptors, core dumps |
//! | namespaces | every network, IPC of others, the privileges of root |
//! | landlock | every path, TCP, signals and abstract sockets out of the cage |
//! | seccomp | every system call that decoding does not need |

mod files;
mod level;
mod limits;
mod namespaces;
mod policy;
mod process;
mod syscalls;

pub use level::{Layer, Level, Missing};
pub use policy::{Sandbox, UnknownSandbox};

/// What the parent allows a child.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of all its threads together. The parent's deadline comes first; this holds when the parent is stopped.
    pub cpu_seconds: u64,
}

/// Enters every layer that the kernel grants.
/// To be called once, by a process with a single thread: what comes later inherits the cage.
#[must_use]
pub fn enter(bounds: Bounds) -> Level {
    let mut level = Level::default();
    // First, because it makes new credentials, and those reset what the process layer sets.
    let namespaces = namespaces::enter();
    let alone = namespaces.is_ok();
    level.record(Layer::Namespaces, namespaces);
    level.record(Layer::Process, process::harden());
    level.record(Layer::Limits, limits::set(bounds, alone));
    match files::close() {
        Ok(abi) => level.landlock_abi = abi,
        Err(why) => level.record(Layer::Landlock, Err(why)),
    }
    // Last: it forbids what the layers above need.
    level.record(Layer::Seccomp, syscalls::filter());
    level
}
