//! `clipstream dev`, from the outside: what the README promises to somebody who types it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};

use crate::support::{self, Daemon};

/// A directory of one test, and what runs in it.
struct Dev {
    directory: PathBuf,
}

impl Dev {
    fn new(name: &str) -> Self {
        Self { directory: support::run_directory().join(name) }
    }

    fn env_file(&self) -> PathBuf {
        self.directory.join("dev.env")
    }

    /// Starts it and waits until it says that it is ready.
    fn start(&self) -> (Daemon, HashMap<String, String>) {
        // Each takes the usual port of the metrics if it is free: two that look at once would both find it so.
        static STARTING: Mutex<()> = Mutex::new(());
        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Daemon::command();
        command.arg("dev").arg("--dir").arg(&self.directory);
        let mut daemon = Daemon::start(command);
        // The banner and not the file: after a kill there is one of the run before, until the new one removes it.
        daemon.until_output("clipstream is ready");
        let text = fs::read_to_string(self.env_file()).expect("dev.env is there before the banner");
        let variables = text.lines().filter_map(|line| line.split_once('='));
        (daemon, variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn reset(&self, arguments: &[&str]) -> Output {
        let mut command = Daemon::command();
        command.args(["dev", "reset", "--dir"]).arg(&self.directory).args(arguments);
        command.output().expect("it runs")
    }
}

/// All processes that descend from one, with their names.
fn descendants(of: u32) -> Vec<(i32, String)> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state ppid …; the name may hold anything, so it is cut at its last bracket.
        let (Some((pid, rest)), Some((_, after))) = (stat.split_once(" ("), stat.rsplit_once(") "))
        else {
            continue;
        };
        let name = rest.rsplit_once(") ").map_or("", |(name, _)| name).to_owned();
        let parent: u32 = after.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        parents.insert(pid.parse::<u32>().expect("a number"), (parent, name));
    }
    let descends = |mut pid: u32| loop {
        match parents.get(&pid) {
            Some((parent, _)) if *parent == of => return true,
            Some((parent, _)) => pid = *parent,
            None => return false,
        }
    };
    let found = parents.iter().filter(|(pid, _)| descends(**pid));
    found.map(|(pid, (_, name))| (i32::try_from(*pid).expect("a pid"), name.clone())).collect()
}

fn alive(processes: &[(i32, String)]) -> Vec<&(i32, String)> {
    let state = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    // One that was killed and not yet reaped is not alive.
    let running = |pid: &i32| state(pid).is_some_and(|stat| !stat.contains(") Z "));
    processes.iter().filter(|(pid, _)| running(pid)).collect()
}

async fn owners(env: &HashMap<String, String>) -> Vec<String> {
    let mut postgres = PgConnection::connect(&env["DATABASE_URL"]).await.expect("Postgres answers");
    sqlx::query_scalar("select name from owners order by name")
        .fetch_all(&mut postgres)
        .await
        .expect("the schema is there")
}

#[tokio::test]
async fn it_starts_everything_stops_everything_and_keeps_the_data() {
    let dev = Dev::new("dev keeps data");
    let (mut daemon, env) = dev.start();
    let mode = fs::metadata(dev.env_file()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "dev.env holds secrets");

    assert_eq!(owners(&env).await, ["default"]);
    let mut postgres = PgConnection::connect(&env["DATABASE_URL"]).await.expect("Postgres answers");
    sqlx::query("insert into owners (id, name) values (gen_random_uuid(), 'kept')")
        .execute(&mut postgres)
        .await
        .expect("inserted");
    postgres.close().await.expect("closed");
    let redis = redis::Client::open(env["REDIS_URL"].as_str()).expect("a URL");
    let mut redis = redis.get_multiplexed_async_connection().await.expect("Redis answers");
    let () = redis::cmd("SET").arg("kept").arg("1").query_async(&mut redis).await.expect("set");
    let client = reqwest::Client::new();
    let live = format!("{}/minio/health/live", env["MINIO_ENDPOINT"]);
    assert_eq!(client.get(live).send().await.expect("MinIO answers").status(), 200);
    let videos = format!("{}/v1/videos", env["CLIPSTREAM_URL"]);
    let answer = client.get(&videos).bearer_auth(&env["CLIPSTREAM_API_KEY"]).send().await;
    assert_eq!(answer.expect("the API answers").status(), 200);
    let banner = daemon.output();
    for name in
        ["CLIPSTREAM_URL", "CLIPSTREAM_API_KEY", "DATABASE_URL", "REDIS_URL", "MINIO_ENDPOINT"]
    {
        assert!(banner.contains(&env[name]), "{name} is not in the banner:\n{banner}");
    }

    let processes = descendants(daemon.pid());
    for server in ["postgres", "redis-server", "minio"] {
        assert!(processes.iter().any(|(_, name)| name == server), "{server} in {processes:?}");
    }
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
    assert!(alive(&processes).is_empty(), "still there: {:?}", alive(&processes));
    assert!(!dev.env_file().exists(), "dev.env describes servers that are gone");

    let (mut daemon, second) = dev.start();
    assert_eq!(owners(&second).await, ["default", "kept"]);
    for name in ["CLIPSTREAM_API_KEY", "DATABASE_URL", "REDIS_URL", "MINIO_ENDPOINT"] {
        assert_eq!(env[name], second[name], "{name} changed");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
}

#[tokio::test]
async fn reset_wipes_a_stopped_stack_and_refuses_a_running_one() {
    let dev = Dev::new("dev-reset");
    let (mut daemon, first) = dev.start();
    let refused = dev.reset(&["--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains(&daemon.pid().to_string()), "it names the holder: {text}");
    assert!(dev.env_file().exists(), "a refused reset changes nothing");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0));

    let unasked = dev.reset(&[]);
    assert_eq!(unasked.status.code(), Some(1), "nobody was there to say yes");
    let kept = dev.directory.join("models");
    fs::create_dir(&kept).expect("a directory of somebody else");
    let wiped = dev.reset(&["--yes"]);
    assert_eq!(wiped.status.code(), Some(0), "{}", String::from_utf8_lossy(&wiped.stderr));
    assert!(!dev.directory.join("postgres").exists() && kept.exists());

    let (_daemon, second) = dev.start();
    assert_ne!(first["CLIPSTREAM_API_KEY"], second["CLIPSTREAM_API_KEY"]);
    assert_eq!(owners(&second).await, ["default"]);
}

#[test]
fn a_second_one_in_the_same_directory_says_so() {
    let dev = Dev::new("dev-twice");
    let (daemon, _) = dev.start();
    let mut command = Daemon::command();
    command.arg("dev").arg("--dir").arg(&dev.directory);
    let mut second = Daemon::start(command);
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.output().contains(&format!("process {}", daemon.pid())), "{}", second.output());
    assert!(dev.env_file().exists(), "the first one goes on");
}

#[test]
fn a_server_that_dies_is_named_with_the_reason() {
    let dev = Dev::new("dev-death");
    let (mut daemon, _) = dev.start();
    let processes = descendants(daemon.pid());
    let (redis, _) = processes.iter().find(|(_, name)| name == "redis-server").expect("Redis runs");
    kill_process(Pid::from_raw(*redis).expect("a pid"), Signal::KILL).expect("killed");
    assert_eq!(daemon.ended().code(), Some(1));
    let output = daemon.output();
    assert!(output.contains("Redis died (signal: 9"), "{output}");
    assert!(alive(&processes).is_empty(), "still there: {:?}", alive(&processes));
}

#[test]
fn killed_it_leaves_no_process_and_the_next_start_works() {
    let dev = Dev::new("dev-killed");
    let (mut daemon, _) = dev.start();
    let processes = descendants(daemon.pid());
    daemon.signal(Signal::KILL);
    daemon.ended();
    support::until("all of them are gone", || alive(&processes).is_empty());
    let (mut daemon, _) = dev.start();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.output());
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let dev = Dev::new("dev-bare");
    let nowhere = Path::new("/nonexistent");
    let mut command = Daemon::command();
    command.arg("dev").arg("--dir").arg(&dev.directory).env("PATH", nowhere).env("HOME", nowhere);
    command.env("GOPATH", nowhere).env_remove("XDG_CACHE_HOME");
    let mut daemon = Daemon::start(command);
    // redis-server or minio, whichever is not in one of the usual places of this machine.
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(daemon.output().contains("was not found (looked in"), "{}", daemon.output());
}
