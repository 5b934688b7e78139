//! Files of others, and of its own making.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::Outside::Works;

use super::{LANDLOCK, Probe, SECCOMP, call, done, probe, read};

pub(super) const PROBES: &[Probe] = &[
    probe("/etc/passwd", |_| read("/etc/passwd"), SECCOMP, Some(LANDLOCK), Works),
    probe(
        "another job's file",
        |t| read(t.other.to_str().unwrap_or_default()),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "another job's file by a link",
        |t| read(t.link.to_str().unwrap_or_default()),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "another job's file by ..",
        |t| read(&format!("{}/../other/source", t.open_directory.display())),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "list a directory",
        |_| fs::read_dir("/").map(|_| "listed".into()),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "look at a path",
        |_| fs::symlink_metadata("/etc/shadow").map(|_| "looked".into()),
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "write another job's file",
        |t| OpenOptions::new().append(true).open(&t.other).map(done),
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "make a file",
        |t| {
            File::create(t.open_directory.join("made"))
                .and_then(|_| fs::remove_file(t.open_directory.join("made")))
                .map(done)
        },
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "make a directory",
        |t| {
            fs::create_dir(t.open_directory.join("made"))
                .and_then(|()| fs::remove_dir(t.open_directory.join("made")))
                .map(done)
        },
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "make a link",
        |t| {
            std::os::unix::fs::symlink("/etc/shadow", t.open_directory.join("made"))
                .and_then(|()| fs::remove_file(t.open_directory.join("made")))
                .map(done)
        },
        SECCOMP,
        Some(LANDLOCK),
        Works,
    ),
    probe(
        "rename another job's file",
        |t| fs::rename(&t.other, &t.other).map(done),
        SECCOMP,
        None,
        Works,
    ),
    probe("remove another job's file", |t| remove(&t.other), SECCOMP, Some(LANDLOCK), Works),
    probe("truncate another job's file", |t| truncate(&t.other), SECCOMP, Some(LANDLOCK), Works),
    probe(
        "change a mode",
        |t| {
            fs::metadata(&t.open_directory)
                .and_then(|m| fs::set_permissions(&t.open_directory, m.permissions()))
                .map(done)
        },
        SECCOMP,
        None,
        Works,
    ),
    probe(
        "file in memory",
        |_| call(libc::SYS_memfd_create, [c"x".as_ptr() as i64, 0, 0, 0, 0, 0]),
        SECCOMP,
        None,
        Works,
    ),
    probe("copy a descriptor", |_| call(libc::SYS_dup, [1, 0, 0, 0, 0, 0]), SECCOMP, None, Works),
];

fn remove(path: &Path) -> io::Result<String> {
    let beside = path.with_file_name("kept");
    let text =
        if fs::metadata("/").is_ok() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    fs::remove_file(path)?;
    fs::write(&beside, &text)?;
    fs::rename(&beside, path).map(done)
}

fn truncate(path: &Path) -> io::Result<String> {
    let length = 21;
    let name =
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| ErrorKind::InvalidInput)?;
    call(libc::SYS_truncate, [name.as_ptr() as i64, length, 0, 0, 0, 0])
}
