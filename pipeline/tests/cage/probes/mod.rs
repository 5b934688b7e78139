//! What an attacker inside the media child would try, one system call or two each, and who is expected to refuse it.
#![expect(unsafe_code, reason = "an attacker has no safe wrappers")]

mod files;
mod kernel;
mod network;
mod processes;
mod programs;
mod resources;

use std::fs::File;
use std::io::{self, Error, Read};

use libc::{EACCES, EPERM, c_long};

use crate::refusals::file_name;
use crate::target::Target;

pub(crate) struct Probe {
    pub(crate) name: &'static str,
    attempt: fn(&Target) -> io::Result<String>,
    /// In the whole cage.
    pub(crate) refused_by: Refusal,
    /// In a cage without seccomp; `None` where seccomp is all there is.
    pub(crate) else_refused_by: Option<Refusal>,
    /// What it answers where nothing holds it back.
    pub(crate) outside: Outside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// seccomp ends the process.
    Killed,
    /// The system call fails so, by the layer that is named.
    Fails(i32, &'static str),
    /// It is done, and there is nothing to be had.
    Finds(&'static str, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    Works,
    /// Not by everybody, or not by every kernel.
    WorksOrFails(&'static [i32]),
    /// Asked so that it changes nothing: the kernel looks at the arguments and finds them wrong.
    Fails(&'static [i32]),
}

const SECCOMP: Refusal = Refusal::Fails(EPERM, "seccomp");
const LANDLOCK: Refusal = Refusal::Fails(EACCES, "landlock");
/// Landlock's scope for signals, and the privileges that are gone.
const SCOPE: Refusal = Refusal::Fails(EPERM, "landlock");
const PRIVILEGES: Refusal = Refusal::Fails(EPERM, "process");

impl Probe {
    pub(crate) fn attempt(&self, target: &Target) -> io::Result<String> {
        (self.attempt)(target)
    }
}

pub(crate) fn find(name: &str) -> &'static Probe {
    all().find(|probe| file_name(probe.name) == file_name(name)).expect("a probe of that name")
}

const fn probe(
    name: &'static str,
    attempt: fn(&Target) -> io::Result<String>,
    refused_by: Refusal,
    else_refused_by: Option<Refusal>,
    outside: Outside,
) -> Probe {
    Probe { name, attempt, refused_by, else_refused_by, outside }
}

/// Every probe, in the order of the table that is shown.
pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    let rooms = [
        network::PROBES,
        programs::PROBES,
        processes::PROBES,
        files::PROBES,
        kernel::PROBES,
        resources::PROBES,
    ];
    rooms.into_iter().flatten()
}

fn done<T>(_: T) -> String {
    "done".into()
}

fn call(number: c_long, a: [i64; 6]) -> io::Result<String> {
    // SAFETY: the arguments are numbers, null, or point to constants; nothing of this process changes by them that the
    // rest of it relies on.
    let answer = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(format!("answered {answer}")) }
}

fn map(length: usize, protection: libc::c_int) -> io::Result<String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new memory somewhere.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok("mapped".into()) }
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = [0; 16];
    let length = File::open(path)?.read(&mut bytes)?;
    Ok(format!("read {length} bytes"))
}
