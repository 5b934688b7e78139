//! A kernel that lacks a layer of the media child's cage: the daemon under a filter that answers as an old kernel would.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clipstream::supervisor::free_port;
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::support::Daemon;

/// What an old kernel, or one whose operator forbids it, answers.
const LACKING: [(&str, libc::c_long, i32); 4] = [
    ("process", libc::SYS_close_range, libc::ENOSYS),
    ("namespaces", libc::SYS_unshare, libc::EPERM),
    ("landlock", libc::SYS_landlock_create_ruleset, libc::ENOSYS),
    ("seccomp", libc::SYS_seccomp, libc::ENOSYS),
];

fn on_a_kernel_without(call: libc::c_long, errno: i32, mut command: Command) -> Command {
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let rules = BTreeMap::from([(call, Vec::new())]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    #[expect(unsafe_code, reason = "the filter has to hold before the daemon begins")]
    // SAFETY: between fork and exec it makes two system calls with memory that is there already.
    unsafe {
        command.pre_exec(move || {
            apply_filter(&program).map_err(|_| io::ErrorKind::Unsupported.into())
        });
    }
    command
}

/// A worker whose servers are away: the cage comes before them.
fn worker(sandbox: Option<&str>) -> Command {
    let nobody = free_port().expect("a port");
    let mut command = Daemon::command();
    command
        .arg("serve")
        .env("CLIPSTREAM_ROLES", "worker")
        .env("DATABASE_URL", format!("postgres://nobody@127.0.0.1:{nobody}/nothing"))
        .env("REDIS_URL", format!("redis://127.0.0.1:{nobody}/0"))
        .env("MINIO_ENDPOINT", format!("127.0.0.1:{nobody}"))
        .env("MINIO_ACCESS_KEY", "clipstream")
        .env("MINIO_SECRET_KEY", "clipstream-secret")
        .env("API_HOST", "127.0.0.1")
        .env("API_PORT", "0")
        .env("METRICS_PORT", "0");
    if let Some(sandbox) = sandbox {
        command.env("CLIPSTREAM_SANDBOX", sandbox);
    }
    command
}

#[test]
fn without_a_layer_a_worker_does_not_start_and_says_which_and_what_to_do() {
    for (layer, call, errno) in LACKING {
        let mut daemon = Daemon::start(on_a_kernel_without(call, errno, worker(None)));
        assert_eq!(daemon.ended().code(), Some(1), "{layer}: {}", daemon.output());
        let output = daemon.output();
        assert!(output.contains(&format!("does not grant {layer} (")), "{layer}: {output}");
        assert!(output.contains("CLIPSTREAM_SANDBOX=best-effort"), "{layer}: {output}");
    }
}

#[test]
fn best_effort_goes_on_and_says_what_is_missing() {
    let (layer, call, errno) = LACKING[2];
    let command = on_a_kernel_without(call, errno, worker(Some("best-effort")));
    let mut daemon = Daemon::start(command);
    daemon.until_output(&format!("missing: {layer}"));
    daemon.until_output("waiting for Postgres");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
}

#[test]
fn a_container_may_lack_namespaces_and_nothing_else() {
    let (_, call, errno) = LACKING[1];
    let command = on_a_kernel_without(call, errno, worker(Some("container")));
    let mut daemon = Daemon::start(command);
    daemon.until_output("missing: namespaces");
    drop(daemon);
    let (_, call, errno) = LACKING[2];
    let command = on_a_kernel_without(call, errno, worker(Some("container")));
    assert_eq!(Daemon::start(command).ended().code(), Some(1));
}

#[test]
fn doctor_names_the_missing_layer() {
    let (layer, call, errno) = LACKING[2];
    for (sandbox, verdict) in [("required", "fail"), ("best-effort", "warn")] {
        let mut command = Daemon::command();
        command.arg("doctor").env("CLIPSTREAM_SANDBOX", sandbox);
        let output = on_a_kernel_without(call, errno, command).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(" sandbox ")).unwrap_or_default();
        let line = line.to_lowercase();
        assert!(line.contains(verdict) && line.contains(&format!("missing: {layer}")), "{text}");
        assert!(text.contains("lsm="), "it says what to do: {text}");
    }
}
