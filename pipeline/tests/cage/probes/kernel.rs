//! The kernel: the ways out of a cage, and the parts that are attacked most. The arguments are wrong on purpose, so that a
//! control that is let through changes nothing.

use libc::{EACCES, EPERM};

use super::Outside::{Fails as Outwards, Works, WorksOrFails};
use super::Refusal::{Fails, Killed};
use super::{PRIVILEGES, Probe, SECCOMP, call, probe};

pub(super) const PROBES: &[Probe] = &[
    probe(
        "mount",
        |_| call(libc::SYS_mount, [0; 6]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, EPERM]),
    ),
    probe(
        "umount",
        |_| call(libc::SYS_umount2, [c"/nowhere".as_ptr() as i64, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::ENOENT, EPERM]),
    ),
    probe(
        "pivot_root",
        |_| {
            call(
                libc::SYS_pivot_root,
                [c"/nowhere".as_ptr() as i64, c"/nowhere".as_ptr() as i64, 0, 0, 0, 0],
            )
        },
        Killed,
        Some(PRIVILEGES),
        Outwards(&[libc::ENOENT, EPERM]),
    ),
    probe(
        "chroot",
        |_| call(libc::SYS_chroot, [c"/".as_ptr() as i64, 0, 0, 0, 0, 0]),
        Killed,
        Some(PRIVILEGES),
        WorksOrFails(&[EPERM]),
    ),
    probe(
        "unshare",
        |_| call(libc::SYS_unshare, [i64::from(libc::CLONE_NEWNS), 0, 0, 0, 0, 0]),
        Killed,
        Some(PRIVILEGES),
        WorksOrFails(&[EPERM]),
    ),
    probe(
        "setns",
        |_| call(libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EBADF]),
    ),
    probe(
        "io_uring",
        |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, libc::ENOSYS, EPERM]),
    ),
    probe(
        "bpf",
        |_| call(libc::SYS_bpf, [9999, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EINVAL, EPERM, libc::EFAULT]),
    ),
    probe(
        "userfaultfd",
        |_| call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]),
        Killed,
        None,
        WorksOrFails(&[libc::ENOSYS, EPERM]),
    ),
    probe(
        "perf_event_open",
        |_| call(libc::SYS_perf_event_open, [0; 6]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, EACCES, EPERM]),
    ),
    probe(
        "keyctl",
        |_| call(libc::SYS_keyctl, [0, -3, 1, 0, 0, 0]),
        Killed,
        None,
        WorksOrFails(&[libc::ENOSYS, libc::ENOKEY]),
    ),
    probe(
        "add_key",
        |_| call(libc::SYS_add_key, [0; 6]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, libc::EINVAL, libc::ENOSYS]),
    ),
    probe(
        "personality",
        |_| call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Works,
    ),
    probe(
        "reboot",
        |_| call(libc::SYS_reboot, [0; 6]),
        Killed,
        Some(PRIVILEGES),
        Outwards(&[libc::EINVAL, EPERM]),
    ),
    probe(
        "kexec",
        |_| call(libc::SYS_kexec_load, [0, 99, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EINVAL, libc::ENOSYS, EPERM]),
    ),
    probe(
        "load a kernel module",
        |_| call(libc::SYS_init_module, [0; 6]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, libc::ENOEXEC, libc::ENOSYS, EPERM]),
    ),
    probe(
        "open by handle",
        |_| call(libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, libc::EBADF, EPERM]),
    ),
    probe(
        "shared memory",
        |_| call(libc::SYS_shmget, [0, 4096, 0o1600, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "become root",
        |_| call(libc::SYS_setuid, [0; 6]),
        SECCOMP,
        Some(Fails(libc::EINVAL, "namespaces")),
        WorksOrFails(&[EPERM]),
    ),
    probe(
        "be dumpable again",
        |_| call(libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "outlive the parent",
        |_| call(libc::SYS_prctl, [i64::from(libc::PR_SET_PDEATHSIG), 0, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "type into a terminal",
        |_| call(libc::SYS_ioctl, [0, 0x5412, c"x".as_ptr() as i64, 0, 0, 0]),
        SECCOMP,
        None,
        Outwards(&[libc::ENOTTY]),
    ),
    probe(
        "real-time priority",
        |_| call(libc::SYS_sched_setscheduler, [0, 1, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Outwards(&[libc::EINVAL, libc::EFAULT]),
    ),
];
