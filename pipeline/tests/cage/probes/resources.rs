//! What can be used up: memory, descriptors, and the limits themselves.

use std::io;

use libc::EPERM;

use super::Outside::{Works, WorksOrFails};
use super::Refusal::Fails;
use super::{PRIVILEGES, Probe, SECCOMP, call, map, probe};
use crate::target::Target;

pub(super) const PROBES: &[Probe] = &[
    probe(
        "more memory than the bound",
        |_| map(1 << 40, libc::PROT_NONE),
        Fails(libc::ENOMEM, "limits"),
        Some(Fails(libc::ENOMEM, "limits")),
        Works,
    ),
    probe(
        "locked memory",
        |_| lock_memory(),
        SECCOMP,
        Some(Fails(EPERM, "limits")),
        WorksOrFails(&[EPERM]),
    ),
    probe("raise a limit", |_| raise_limit(), SECCOMP, Some(PRIVILEGES), Works),
    probe(
        "many descriptors",
        many_descriptors,
        SECCOMP,
        Some(Fails(libc::EMFILE, "limits")),
        Works,
    ),
];

fn lock_memory() -> io::Result<String> {
    let page = vec![0_u8; 1 << 20];
    call(libc::SYS_mlock, [page.as_ptr() as i64, 1 << 20, 0, 0, 0, 0])
}

fn raise_limit() -> io::Result<String> {
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    let at = &raw const limit as i64;
    call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE.into(), at, 0, 0, 0])
}

fn many_descriptors(_: &Target) -> io::Result<String> {
    // Never closed again: this process is about to end.
    (0..64).try_fold(String::new(), |_, _| call(libc::SYS_dup, [1, 0, 0, 0, 0, 0]))
}
