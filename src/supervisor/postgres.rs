//! A private Postgres: its cluster made once, UTF-8, C locale, checksums, password on loopback only.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::postmaster::clear_lock;
use super::programs::{Programs, environment};
use super::spawner::Spec;
use super::{Process, SupervisorError, write_private};

const INIT_PATIENCE: Duration = Duration::from_mins(2);
const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Where a cluster goes that the user `postgres` could not reach otherwise.
const ELSEWHERE: &str = "/var/lib/clipstream-dev";

/// What to start. The password must be of `[A-Za-z0-9]`.
#[derive(Clone)]
pub struct Postgres {
    /// Holds the cluster in `data`.
    pub directory: PathBuf,
    pub log: PathBuf,
    pub port: u16,
    pub password: String,
    pub max_connections: u16,
    /// False only for tests: a crash of the machine may then lose the cluster.
    pub durable: bool,
}

/// A Postgres that answers, with the database `clipstream` and the superuser `clipstream`.
pub struct PostgresServer {
    config: Postgres,
    process: Process,
}

impl Postgres {
    pub async fn start(mut self, programs: &Programs) -> Result<PostgresServer, SupervisorError> {
        let account = Account::for_postgres()?;
        self.make_reachable(account)?;
        let data = self.directory.join("data");
        let version = fs::read_to_string(data.join("PG_VERSION")).ok();
        let programs = programs.postgres(version.as_deref().map(str::trim))?;
        if version.is_none() {
            self.initialise(&programs, account).await?;
        }
        clear_lock(&data).await?;
        let server = programs.join("postgres");
        let process =
            Process::start(self.spec(server, self.arguments(&data), account, &self.log)).await?;
        process.ready(START_PATIENCE, async || self.is_ready(&programs).await).await?;
        Ok(PostgresServer { config: self, process })
    }

    /// Makes the directory, as and where Postgres can use it.
    fn make_reachable(&mut self, account: Option<Account>) -> Result<(), SupervisorError> {
        let Some(account) = account else { return create(&self.directory) };
        let blocked = account
            .cannot_enter(&self.directory)
            .map_err(SupervisorError::file("read", &self.directory))?;
        if let Some(blocked) = blocked {
            let elsewhere = elsewhere(&self.directory);
            tracing::warn!(
                "the user postgres cannot enter {}: its files go to {}, linked from {}",
                blocked.display(),
                elsewhere.display(),
                self.directory.display()
            );
            create(Path::new(ELSEWHERE))?;
            create(&elsewhere)?;
            if !self.directory.is_symlink() {
                symlink(&elsewhere, &self.directory)
                    .map_err(SupervisorError::file("link", &self.directory))?;
            }
            self.directory = elsewhere;
        } else {
            create(&self.directory)?;
        }
        account.own(&self.directory)
    }

    /// Under another name first: a cluster named `data` is whole, also after a crash in the middle of this.
    async fn initialise(
        &self,
        programs: &Path,
        account: Option<Account>,
    ) -> Result<(), SupervisorError> {
        let partial = self.directory.join("partial");
        remove(&partial)?;
        let password = self.directory.join("password");
        write_private(&password, self.password.as_bytes())?;
        if let Some(account) = account {
            account.own(&password)?;
        }
        let mut arguments: Vec<OsString> = [
            "--username=clipstream",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            "--auth=scram-sha-256",
            "--pwfile=password",
            "--pgdata=partial",
        ]
        .map(OsString::from)
        .to_vec();
        if !self.durable {
            arguments.push("--no-sync".into());
        }
        let log = self.log.with_file_name("initdb.log");
        self.run(self.spec(programs.join("initdb"), arguments, account, &log)).await?;
        fs::remove_file(&password).map_err(SupervisorError::file("remove", &password))?;

        let statement = self.directory.join("statement");
        File::create(&statement)
            .and_then(|mut file| file.write_all(b"create database clipstream;\n"))
            .map_err(SupervisorError::file("write", &statement))?;
        let stdin = File::open(&statement).map_err(SupervisorError::file("open", &statement))?;
        let arguments = ["--single", "-j", "-D", "partial", "postgres"].map(OsString::from);
        let log = self.log.with_file_name("createdb.log");
        let mut single = self.spec(programs.join("postgres"), arguments.to_vec(), account, &log);
        single.stdin = Stdio::from(stdin);
        self.run(single).await?;
        remove(&statement)?;
        let data = self.directory.join("data");
        fs::rename(&partial, &data).map_err(SupervisorError::file("rename", &partial))
    }

    fn arguments(&self, data: &Path) -> Vec<OsString> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            // Relative to the cluster: a socket's path is short, the user's directories may not be.
            "unix_socket_directories=.".to_owned(),
            format!("max_connections={}", self.max_connections),
            "shared_buffers=32MB".to_owned(),
            // In the cluster and not in /dev/shm, which containers make small and where a killed server leaves it.
            "dynamic_shared_memory_type=mmap".to_owned(),
            "log_line_prefix=%m [%p] %u@%d ".to_owned(),
        ];
        if !self.durable {
            settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
        for setting in settings {
            arguments.extend(["-c".into(), setting.into()]);
        }
        arguments
    }

    fn spec(
        &self,
        program: PathBuf,
        arguments: Vec<OsString>,
        account: Option<Account>,
        log: &Path,
    ) -> Spec {
        Spec {
            name: "Postgres",
            program,
            arguments,
            environment: environment(),
            directory: self.directory.clone(),
            account,
            stdin: Stdio::null(),
            log: log.to_owned(),
            // Fast shutdown: ends the sessions, then itself, in order.
            stop: Signal::INT,
        }
    }

    /// Runs a program to its end; anything but success is a death.
    async fn run(&self, spec: Spec) -> Result<(), SupervisorError> {
        let log = spec.log.clone();
        let process = Process::start(spec).await?;
        match tokio::time::timeout(INIT_PATIENCE, process.exited()).await {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(_) => Err(SupervisorError::Died(process.died().await)),
            Err(_) => Err(SupervisorError::Stuck { name: "Postgres", after: INIT_PATIENCE, log }),
        }
    }

    async fn is_ready(&self, programs: &Path) -> Result<(), String> {
        let output = tokio::process::Command::new(programs.join("pg_isready"))
            .args([
                "--host=127.0.0.1",
                "--timeout=2",
                "--dbname=clipstream",
                "--username=clipstream",
            ])
            .arg(format!("--port={}", self.port))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| format!("pg_isready could not be run: {error}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
    }

    /// Removes the cluster, wherever it is.
    pub fn wipe(directory: &Path) -> Result<(), SupervisorError> {
        if directory.is_symlink() {
            let target = elsewhere(directory);
            remove(&target)?;
        }
        remove(directory)
    }
}

impl PostgresServer {
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("clipstream")
    }

    /// For another database of the same server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let Postgres { port, password, .. } = &self.config;
        format!("postgres://clipstream:{password}@127.0.0.1:{port}/{database}")
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    pub async fn stop(self) {
        self.process.stop(STOP_PATIENCE).await;
    }
}

/// Made from the path, so that each directory has its own and a reset finds it again.
fn elsewhere(directory: &Path) -> PathBuf {
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    Path::new(ELSEWHERE).join(hex::encode(&digest[..8]))
}

/// Enterable by Postgres' user, listable by nobody else.
fn create(directory: &Path) -> Result<(), SupervisorError> {
    fs::create_dir_all(directory).map_err(SupervisorError::file("create", directory))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711))
        .map_err(SupervisorError::file("chmod", directory))
}

/// Removes a file, a link or a whole directory; nothing there is fine.
fn remove(path: &Path) -> Result<(), SupervisorError> {
    let is_directory = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SupervisorError::file("read", path)(error)),
    };
    let removed = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(SupervisorError::file("remove", path))
}
