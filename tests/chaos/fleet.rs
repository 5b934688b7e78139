//! Our own processes, each behind proxies of its own: started, killed, stopped and replaced, so many of each role always.
//! A process is killed by its id and only when it is old enough to have begun: faster looks like a stalled protocol.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::proxy::{Proxy, Wire};
use crate::services::{BUCKET, Services};
use crate::steps::Step;

/// The youngest process that may be killed.
const GROWN_UP: Duration = Duration::from_secs(1);
/// How long an orderly end may take: jobs here last a second.
const DRAINED: Duration = Duration::from_secs(30);
pub(crate) const WEBHOOK_TOKEN: &str = "the-token-of-the-chaos-harness";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// This binary again, as a worker with pretended stages.
    Worker,
    /// `clipstream serve` with the webhook, the dispatcher and the reconciler.
    Daemon,
    /// `clipstream serve` with the worker too, and real stages.
    Whole,
}

/// Settings of a run that processes must know.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) lease: Duration,
    /// Of the one outage that lasts.
    pub(crate) long_outage: Duration,
    pub(crate) workers: usize,
    pub(crate) daemons: usize,
    pub(crate) wholes: usize,
    /// The boundaries at which processes are killed.
    pub(crate) steps: Vec<&'static Step>,
}

/// A place in the fleet; the process in it changes.
pub(crate) struct Member {
    /// Also its name in Postgres, so that the witness knows who wrote.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) postgres: Proxy,
    pub(crate) redis: Proxy,
    pub(crate) minio: Proxy,
    /// Where a daemon listens.
    pub(crate) port: u16,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    /// How many minutes its clock is off, from its next start on.
    clock_minutes: AtomicI32,
    process: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    since: Instant,
}

pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
}

impl Fleet {
    /// Everybody's proxies, and then their processes.
    pub(crate) async fn start(services: &Services, settings: &Settings, directory: &Path) -> Self {
        let roles = std::iter::repeat_n(Role::Worker, settings.workers)
            .chain(std::iter::repeat_n(Role::Daemon, settings.daemons))
            .chain(std::iter::repeat_n(Role::Whole, settings.wholes));
        let mut members = Vec::new();
        for (number, role) in roles.enumerate() {
            members.push(Member::new(number, role, services, settings, directory).await);
        }
        let fleet = Self { members };
        fleet.members.iter().for_each(Member::start);
        fleet
    }

    /// Names of everybody, to be made known to Postgres before they come.
    pub(crate) fn names(settings: &Settings) -> Vec<String> {
        (0..settings.workers + settings.daemons + settings.wholes).map(name).collect()
    }

    pub(crate) fn of(&self, role: Role) -> Vec<&Member> {
        self.members.iter().filter(|member| member.role == role).collect()
    }

    /// Everybody of a role who is old enough to be killed: one at least.
    pub(crate) async fn grown_up(&self, role: Role) -> Vec<&Member> {
        let members = self.of(role);
        let grown_up = |member: &&Member| member.age().is_some_and(|age| age >= GROWN_UP);
        for member in &members {
            if members.iter().any(grown_up) {
                break;
            }
            member.grown_up().await;
        }
        members.into_iter().filter(grown_up).collect()
    }

    /// Of the processes that run now, by their places.
    pub(crate) fn pids(&self) -> Vec<(usize, u32)> {
        let pid = |member: &Member| member.process().as_ref().map(|running| running.child.id());
        let members = self.members.iter().enumerate();
        members.filter_map(|(number, member)| Some((number, pid(member)?))).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// For the actions of traps, which may not wait. Its place still holds the process, unreaped, so the number is nobody
/// else's.
pub(crate) fn signal_by_id(pids: &[(usize, u32)], owner: usize, signal: Signal) {
    let found = pids.iter().find(|(member, _)| *member == owner);
    let pid = found.and_then(|(_, pid)| Pid::from_raw(i32::try_from(*pid).ok()?));
    kill_process(pid.expect("it was there when the trap was made"), signal).expect("it is ours");
}

fn name(number: usize) -> String {
    format!("member_{number}")
}

impl Member {
    async fn new(
        number: usize,
        role: Role,
        services: &Services,
        settings: &Settings,
        directory: &Path,
    ) -> Self {
        let name = name(number);
        let postgres = Proxy::start(number, Wire::Postgres, services.postgres.port).await;
        let redis = Proxy::start(number, Wire::Redis, services.redis.port).await;
        let minio = Proxy::start(number, Wire::Http, services.minio_port()).await;
        let port = clipstream::supervisor::free_port().expect("a port");
        let storage = services.storage_config(minio.port());
        let scratch = directory.join("scratch").join(&name);
        let roles = match role {
            Role::Whole => "webhook,dispatch,worker",
            Role::Worker | Role::Daemon => "webhook,dispatch",
        };
        let environment = vec![
            ("DATABASE_URL", services.postgres_url(&name, postgres.port())),
            ("REDIS_URL", services.redis_url(redis.port())),
            ("MINIO_ENDPOINT", storage.endpoint.to_string()),
            ("MINIO_ACCESS_KEY", storage.access_key),
            ("MINIO_SECRET_KEY", storage.secret_key),
            ("MINIO_BUCKET", BUCKET.to_owned()),
            ("MINIO_WEBHOOK_TOKEN", WEBHOOK_TOKEN.to_owned()),
            ("API_HOST", "127.0.0.1".to_owned()),
            ("API_PORT", port.to_string()),
            ("METRICS_PORT", "0".to_owned()),
            ("CLIPSTREAM_ROLES", roles.to_owned()),
            ("CLIPSTREAM_RECONCILE_SECONDS", "5".to_owned()),
            ("CLIPSTREAM_LEASE_SECONDS", settings.lease.as_secs().to_string()),
            ("CLIPSTREAM_SCRATCH", scratch.display().to_string()),
            ("CLIPSTREAM_LOG", "info,actix_server=warn,sqlx=warn".to_owned()),
            ("CHAOS_SEED", settings.seed.to_string()),
            ("CHAOS_NAME", name.clone()),
            ("CHAOS_BEATS", directory.join(format!("{name}.beats")).display().to_string()),
        ];
        let log = directory.join(format!("{name}.log"));
        let (clock_minutes, process) = (AtomicI32::default(), Mutex::default());
        Self { name, role, postgres, redis, minio, port, environment, log, clock_minutes, process }
    }

    /// Replaces whatever was in this place.
    pub(crate) fn start(&self) {
        self.kill();
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let child = self.command(log).spawn().expect("it starts");
        *self.process() = Some(Running { child, since: Instant::now() });
    }

    /// `setpriv` sees to it that nobody outlives this run; the process id stays the same.
    fn command(&self, log: File) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).env_clear();
        match self.role {
            Role::Worker => {
                command.arg(std::env::current_exe().expect("our own path")).arg(crate::WORKER);
            }
            Role::Daemon | Role::Whole => {
                command.arg(env!("CARGO_BIN_EXE_clipstream")).arg("serve");
            }
        }
        command.envs(self.wrong_clock());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in ["PATH", "HOME", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let second = log.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(log).stderr(second);
        command
    }

    /// Waits until its process is old enough to be killed. Starts one if it ended by itself, which `clipstream` may do
    /// while Postgres is away.
    pub(crate) async fn grown_up(&self) {
        loop {
            let age = self.age();
            match age {
                Some(age) if age >= GROWN_UP => return,
                Some(age) => tokio::time::sleep(GROWN_UP.saturating_sub(age)).await,
                None => self.start(),
            }
        }
    }

    /// From its next start on.
    pub(crate) fn set_clock(&self, minutes: i32) {
        self.clock_minutes.store(minutes, Ordering::SeqCst);
    }

    /// Only the wall clock is wrong: one that measures durations cannot jump.
    fn wrong_clock(&self) -> Vec<(&'static str, String)> {
        let minutes = self.clock_minutes.load(Ordering::SeqCst);
        if minutes == 0 {
            return Vec::new();
        }
        let library =
            format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        assert!(Path::new(&library).exists(), "{library} is missing: scripts/setup.sh installs it");
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME", format!("{minutes:+}m")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// What time it was for itself when it last wrote a line.
    pub(crate) fn last_word_at(&self) -> Option<OffsetDateTime> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line: serde_json::Value = serde_json::from_str(log.lines().next_back()?).ok()?;
        OffsetDateTime::parse(line["timestamp"].as_str()?, &Rfc3339).ok()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(|running| running.child.id())
    }

    fn age(&self) -> Option<Duration> {
        let mut process = self.process();
        let running = process.as_mut()?;
        let ended = running.child.try_wait().expect("its state").is_some();
        (!ended).then(|| running.since.elapsed())
    }

    /// SIGKILL, and waits for the end. Nothing in it can run a line of code after this.
    pub(crate) fn kill(&self) {
        if let Some(mut running) = self.process().take() {
            running.child.kill().expect("it is ours");
            running.child.wait().expect("it ends");
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&self) {
        let begun = Instant::now();
        while self.age().is_some() {
            assert!(begun.elapsed() < DRAINED, "{} does not end; see its log", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(running) = self.process().as_ref() {
            kill_process(Pid::from_child(&running.child), signal).expect("it is ours");
        }
    }

    /// How many of its attempts found at their end that they had lost their lease.
    pub(crate) fn refusals(&self) -> usize {
        let log = fs::read_to_string(&self.log).expect("its log");
        log.lines().filter(|line| line.contains("lease lost: ")).count()
    }

    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
