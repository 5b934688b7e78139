//! Other programs, other processes of its own, and code that was not there before.

use std::io::{self, Error};
use std::process::Command;

use super::Outside::{Fails as Outwards, Works};
use super::Refusal::{Fails, Killed};
use super::{LANDLOCK, Probe, SECCOMP, call, map, probe};
use crate::target::Target;

pub(super) const PROBES: &[Probe] = &[
    probe("exec", exec, Killed, Some(LANDLOCK), Works),
    probe(
        "execveat",
        |_| call(libc::SYS_execveat, [-1, 0, 0, 0, 0, 0]),
        Killed,
        None,
        Outwards(&[libc::EFAULT, libc::EBADF]),
    ),
    probe(
        "spawn a shell",
        |_| Command::new("/bin/sh").arg("-c").arg("exit 0").status().map(|s| s.to_string()),
        Killed,
        Some(LANDLOCK),
        Works,
    ),
    probe("fork", |_| fork(), Killed, None, Works),
    probe("fork bomb", |_| (0..64).try_fold(String::new(), |_, _| fork()), Killed, None, Works),
    probe(
        "clone into namespaces",
        |_| {
            call(
                libc::SYS_clone,
                [i64::from(libc::CLONE_NEWUSER | libc::CLONE_THREAD), 0, 0, 0, 0, 0],
            )
        },
        SECCOMP,
        None,
        Outwards(&[libc::EINVAL]),
    ),
    probe(
        "clone3",
        |_| call(libc::SYS_clone3, [0; 6]),
        Fails(libc::ENOSYS, "seccomp"),
        None,
        Outwards(&[libc::EINVAL]),
    ),
    probe(
        "load a library",
        load_library,
        Fails(libc::ELIBACC, "landlock"),
        Some(Fails(libc::ELIBACC, "landlock")),
        Works,
    ),
    probe(
        "memory that is written and run",
        |_| map(4096, libc::PROT_WRITE | libc::PROT_EXEC),
        SECCOMP,
        None,
        Works,
    ),
    probe("make memory executable", make_executable, SECCOMP, None, Works),
];

fn exec(_: &Target) -> io::Result<String> {
    use std::os::unix::process::CommandExt;
    Err(Command::new("/bin/true").exec())
}

fn fork() -> io::Result<String> {
    // SAFETY: the child does nothing but end.
    match unsafe { libc::syscall(libc::SYS_clone, i64::from(libc::SIGCHLD), 0, 0, 0, 0) } {
        0 => {
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        answer if answer < 0 => Err(Error::last_os_error()),
        child => {
            // SAFETY: takes a null pointer for a status that nobody wants.
            unsafe { libc::waitpid(i32::try_from(child).unwrap_or(-1), std::ptr::null_mut(), 0) };
            Ok("forked".into())
        }
    }
}

fn load_library(_: &Target) -> io::Result<String> {
    // SAFETY: a library of glibc's that does nothing when it is loaded.
    let library = unsafe { libc::dlopen(c"libBrokenLocale.so.1".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        Err(Error::from_raw_os_error(libc::ELIBACC))
    } else {
        Ok("loaded".into())
    }
}

fn make_executable(_: &Target) -> io::Result<String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory somewhere, which is then changed.
    let answer = unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_WRITE, flags, -1, 0);
        libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC)
    };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok("made".into()) }
}
