//! The network, and everything that has an address.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use libc::{EACCES, EPERM};

use super::Outside::{Fails as Outwards, Works, WorksOrFails};
use super::Refusal::{Fails, Killed};
use super::{PRIVILEGES, Probe, SECCOMP, call, done, probe};
use crate::target::Target;

pub(super) const PROBES: &[Probe] = &[
    probe("socket inet", |_| socket(libc::AF_INET, libc::SOCK_STREAM), Killed, None, Works),
    probe("socket inet6", |_| socket(libc::AF_INET6, libc::SOCK_DGRAM), Killed, None, Works),
    probe("socket unix", |_| socket(libc::AF_UNIX, libc::SOCK_STREAM), Killed, None, Works),
    probe("socket netlink", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW), Killed, None, Works),
    probe(
        "socket packet",
        |_| socket(libc::AF_PACKET, libc::SOCK_RAW),
        Killed,
        Some(PRIVILEGES),
        WorksOrFails(&[EPERM]),
    ),
    probe(
        "socket vsock",
        |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM),
        Killed,
        None,
        WorksOrFails(&[libc::EAFNOSUPPORT]),
    ),
    probe(
        "socket raw",
        |_| socket(libc::AF_INET, libc::SOCK_RAW),
        Killed,
        Some(PRIVILEGES),
        WorksOrFails(&[EPERM, libc::EPROTONOSUPPORT]),
    ),
    probe(
        "socket alg",
        |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET),
        Killed,
        None,
        WorksOrFails(&[libc::EAFNOSUPPORT]),
    ),
    probe("socketpair", socketpair, Killed, None, Works),
    probe(
        "connect to the database port",
        connect,
        Killed,
        Some(Fails(libc::EACCES, "landlock")),
        Works,
    ),
    probe("connect to a unix socket", connect_unix, Killed, None, Works),
    probe("bind a port", bind, Killed, Some(Fails(EACCES, "landlock")), Works),
    probe(
        "descriptors over a socket",
        |_| call(libc::SYS_recvmsg, [0; 6]),
        SECCOMP,
        None,
        Outwards(&[libc::ENOTSOCK]),
    ),
];

fn socket(family: libc::c_int, kind: libc::c_int) -> io::Result<String> {
    let protocol =
        if kind == libc::SOCK_RAW && family == libc::AF_INET { libc::IPPROTO_ICMP } else { 0 };
    call(libc::SYS_socket, [family, kind, protocol, 0, 0, 0].map(i64::from))
}

fn socketpair(_: &Target) -> io::Result<String> {
    UnixStream::pair().map(done)
}

fn connect(target: &Target) -> io::Result<String> {
    TcpStream::connect(("127.0.0.1", target.port)).map(done)
}

fn connect_unix(target: &Target) -> io::Result<String> {
    UnixStream::connect(&target.socket).map(done)
}

fn bind(_: &Target) -> io::Result<String> {
    std::net::TcpListener::bind("127.0.0.1:0").map(done)
}
