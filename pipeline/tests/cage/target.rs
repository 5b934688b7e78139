//! What the hostile child knows of the world outside: written down by the test, read before the cage closes.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

/// Things that a child must not reach.
#[derive(Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) parent: i32,
    pub(crate) parent_group: i32,
    /// A port of the loopback, as Postgres and Redis have one.
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    /// A file of another job.
    pub(crate) other: PathBuf,
    /// A link to it.
    pub(crate) link: PathBuf,
    /// A directory that everybody may write to.
    pub(crate) open_directory: PathBuf,
    /// A descriptor that the parent forgot to close.
    pub(crate) forgotten: RawFd,
}

/// The target, and what holds it open. Nobody may have connected when it is dropped.
pub(crate) struct Stage {
    pub(crate) target: Target,
    tcp: TcpListener,
    unix: UnixListener,
    _forgotten: File,
}

impl Stage {
    pub(crate) fn new(directory: &Path) -> Self {
        let other = directory.join("other");
        let open_directory = directory.join("open");
        for path in [&other, &open_directory] {
            fs::create_dir(path).expect("a directory");
        }
        let secret = other.join("source");
        fs::write(&secret, "somebody else's video").expect("a file");
        let link = directory.join("link");
        std::os::unix::fs::symlink(&secret, &link).expect("a link");
        let forgotten = File::open(&secret).expect("a file");
        fcntl_setfd(&forgotten, FdFlags::empty()).expect("inheritable");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        tcp.set_nonblocking(true).expect("a setting");
        let socket = directory.join("socket");
        let unix = UnixListener::bind(&socket).expect("a socket");
        unix.set_nonblocking(true).expect("a setting");
        let target = Target {
            parent: std::process::id().cast_signed(),
            parent_group: rustix::process::getpgrp().as_raw_nonzero().get(),
            port: tcp.local_addr().expect("an address").port(),
            socket,
            other: secret,
            link,
            open_directory,
            forgotten: forgotten.as_raw_fd(),
        };
        let stage = Self { target, tcp, unix, _forgotten: forgotten };
        let mut file = File::create(directory.join("target")).expect("a file");
        let text = serde_json::to_vec(&stage.target).expect("JSON");
        file.write_all(&text).expect("a write");
        stage
    }

    /// Whether anybody has knocked.
    pub(crate) fn was_reached(&self) -> bool {
        self.tcp.accept().is_ok() || self.unix.accept().is_ok()
    }

    /// What a child may have changed.
    pub(crate) fn is_untouched(&self) -> bool {
        let Target { other, open_directory, link, .. } = &self.target;
        fs::read_to_string(other).is_ok_and(|text| text == "somebody else's video")
            && fs::read_dir(open_directory).is_ok_and(|mut entries| entries.next().is_none())
            && fs::read_link(link).is_ok()
    }
}

impl Target {
    /// Beside the program that is asked.
    pub(crate) fn read(program: &Path) -> Self {
        let text = fs::read(program.with_file_name("target")).expect("the target");
        serde_json::from_slice(&text).expect("JSON")
    }
}
