//! Spawning: one thread starts all children, and each child dies with us.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::Signal;

use super::account::Account;
use super::{SupervisorError, log};

/// What to run.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// The whole environment: nothing is inherited, so that a proxy or a `MINIO_…` of the user cannot reach a server.
    pub(super) environment: Vec<(String, OsString)>,
    pub(super) directory: PathBuf,
    pub(super) account: Option<Account>,
    pub(super) stdin: Stdio,
    pub(super) log: PathBuf,
    /// What asks it to end in order.
    pub(super) stop: Signal,
}

type Order = (Command, tokio::sync::oneshot::Sender<io::Result<Child>>);

/// Spawns on one thread that lives as long as we do. The parent-death signal is sent when the *thread* that spawned
/// ends, and tokio's threads come and go.
pub(super) async fn spawn(spec: Spec) -> Result<Child, SupervisorError> {
    static SPAWNER: OnceLock<Result<mpsc::Sender<Order>, String>> = OnceLock::new();
    let (name, program) = (spec.name, spec.program.clone());
    let failed = move |source| SupervisorError::Spawn { name, program, source };
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                        // Whoever asked has gone: nobody would ever end this child.
                        drop(orphan.kill());
                        drop(orphan.wait());
                    }
                }
            })
            .map(|_| orders)
            .map_err(|error| error.to_string())
    });
    let gone = || io::Error::other("the spawner thread is gone");
    let spawner = match spawner {
        Ok(spawner) => spawner,
        Err(error) => return Err(failed(io::Error::other(error.as_str()))),
    };
    let command = command(spec)?;
    let (reply, answer) = tokio::sync::oneshot::channel();
    let sent = spawner.send((command, reply)).map_err(|_| gone());
    let child = match sent {
        Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
        Err(error) => Err(error),
    };
    child.map_err(failed)
}

fn command(spec: Spec) -> Result<Command, SupervisorError> {
    let output = log::open(&spec.log)?;
    let second = output.try_clone().map_err(SupervisorError::file("open", &spec.log))?;
    let mut command = Command::new(&spec.program);
    command
        .args(spec.arguments)
        .env_clear()
        .envs(spec.environment)
        .current_dir(spec.directory)
        .stdin(spec.stdin)
        .stdout(output)
        .stderr(second)
        .process_group(0);
    if let Some(account) = spec.account {
        command.uid(account.uid).gid(account.gid);
    }
    die_with_us(&mut command);
    Ok(command)
}

#[expect(unsafe_code, reason = "pre_exec is the only way to set the parent-death signal")]
fn die_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes two system calls; it allocates nothing and takes no lock.
    // It runs after the change of user, which would clear the signal again.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // We may have died before the line above: then nobody will send the signal.
            if rustix::process::getppid() == Some(us) {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::NotFound))
            }
        });
    }
}
