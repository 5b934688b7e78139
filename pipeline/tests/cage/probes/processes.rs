//! The parent and everybody else: their signals, memory, secrets and descriptors.

use std::io;

use libc::{EPERM, c_long};

use super::Outside::{Fails as Outwards, Works, WorksOrFails};
use super::Refusal::{Fails, Finds, Killed};
use super::{LANDLOCK, PRIVILEGES, Probe, SCOPE, SECCOMP, call, probe, read};
use crate::target::Target;

pub(super) const PROBES: &[Probe] = &[
    probe(
        "signal to the parent",
        |t| call(libc::SYS_kill, [i64::from(t.parent), 0, 0, 0, 0, 0]),
        SECCOMP,
        Some(SCOPE),
        Works,
    ),
    probe(
        "signal to the parent's group",
        |t| call(libc::SYS_kill, [-i64::from(t.parent_group), 0, 0, 0, 0, 0]),
        SECCOMP,
        Some(SCOPE),
        Works,
    ),
    probe(
        "signal to everybody",
        |_| call(libc::SYS_kill, [-1, 0, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "signal to a thread of the parent",
        |t| call(libc::SYS_tgkill, [i64::from(t.parent), i64::from(t.parent), 0, 0, 0, 0]),
        SECCOMP,
        Some(SCOPE),
        Works,
    ),
    probe("queue a signal to the parent", queue_signal, SECCOMP, Some(SCOPE), Works),
    probe(
        "ptrace the parent",
        |t| {
            call(libc::SYS_ptrace, [i64::from(libc::PTRACE_SEIZE), i64::from(t.parent), 0, 0, 0, 0])
        },
        Killed,
        Some(PRIVILEGES),
        WorksOrFails(&[EPERM]),
    ),
    probe(
        "read the parent's memory",
        read_parent,
        Killed,
        Some(PRIVILEGES),
        Outwards(&[libc::EFAULT]),
    ),
    probe(
        "write the parent's memory",
        write_parent,
        Killed,
        Some(PRIVILEGES),
        Outwards(&[libc::EFAULT]),
    ),
    probe(
        "pidfd of the parent",
        |t| call(libc::SYS_pidfd_open, [i64::from(t.parent), 0, 0, 0, 0, 0]),
        Killed,
        None,
        Works,
    ),
    probe(
        "limits of the parent",
        |t| call(libc::SYS_prlimit64, [i64::from(t.parent), 7, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "environment",
        |_| Ok(environment()),
        Finds("nothing", "the parent"),
        Some(Finds("nothing", "the parent")),
        Works,
    ),
    probe(
        "/proc/PARENT/environ",
        |t| read(&format!("/proc/{}/environ", t.parent)),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "/proc/PARENT/mem",
        |t| read(&format!("/proc/{}/mem", t.parent)),
        SECCOMP,
        Some(LANDLOCK),
        Outwards(&[libc::EIO]),
    ),
    probe("/proc/self/maps", |_| read("/proc/self/maps"), SECCOMP, Some(LANDLOCK), Works),
    probe(
        "forgotten descriptor",
        forgotten,
        Fails(libc::EBADF, "process"),
        Some(Fails(libc::EBADF, "process")),
        Works,
    ),
];

fn queue_signal(target: &Target) -> io::Result<String> {
    // SI_QUEUE from oneself: the first ints are the signal, an errno and the code.
    let information: [i32; 32] = std::array::from_fn(|at| if at == 2 { -1 } else { 0 });
    let at = information.as_ptr() as i64;
    call(libc::SYS_rt_sigqueueinfo, [i64::from(target.parent), 0, at, 0, 0, 0])
}

fn read_parent(target: &Target) -> io::Result<String> {
    other_memory(libc::SYS_process_vm_readv, target)
}

fn write_parent(target: &Target) -> io::Result<String> {
    other_memory(libc::SYS_process_vm_writev, target)
}

fn other_memory(number: c_long, target: &Target) -> io::Result<String> {
    let mut own = [0_u8; 8];
    let here = libc::iovec { iov_base: own.as_mut_ptr().cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: std::ptr::without_provenance_mut(8), iov_len: 8 };
    let (here, there) = (&raw const here as i64, &raw const there as i64);
    call(number, [i64::from(target.parent), here, 1, there, 1, 0])
}

fn environment() -> String {
    let found = std::env::vars_os().count();
    if found == 0 { "nothing".into() } else { format!("{found} variables") }
}

fn forgotten(target: &Target) -> io::Result<String> {
    let mut byte = 0_u8;
    let at = &raw mut byte as i64;
    call(libc::SYS_read, [i64::from(target.forgotten), at, 1, 0, 0, 0])
}
