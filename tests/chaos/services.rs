//! The real servers of a run, started by the supervisor of `clipstream dev`, and the ways in which they are lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clipstream::supervisor::{
    Minio, MinioServer, Postgres, PostgresServer, Process, Programs, Redis, RedisServer, free_port,
    random_hex,
};
use pipeline::storage::StorageConfig;
use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::WEBHOOK_TOKEN;

pub(crate) const BUCKET: &str = "clipstream";
/// Of the database and of everybody in it.
const DATABASE: &str = "clipstream";

pub(crate) struct Services {
    programs: Programs,
    pub(crate) postgres: Postgres,
    postgres_server: Option<PostgresServer>,
    pub(crate) redis: Redis,
    redis_server: Option<RedisServer>,
    minio: Minio,
    minio_server: Option<MinioServer>,
}

impl Services {
    /// All in `directory`.
    pub(crate) async fn start(directory: &Path) -> Self {
        let cache = clipstream::config::cache_dir().expect("HOME is set");
        let programs = Programs::new(&directory.join("bin"), Some(&cache));
        let postgres = Postgres {
            directory: directory.join("postgres"),
            log: directory.join("postgres.log"),
            port: free_port().expect("a port"),
            password: random_hex().expect("random bytes"),
            max_connections: 300,
            // It is stopped without warning: a commit that was answered must be on disk.
            durable: true,
        };
        let redis = Redis {
            directory: directory.join("redis"),
            log: directory.join("redis.log"),
            port: free_port().expect("a port"),
            password: random_hex().expect("random bytes"),
        };
        let minio = minio(directory);
        let (postgres_server, redis_server, minio_server) = tokio::try_join!(
            postgres.clone().start(&programs),
            redis.clone().start(&programs),
            minio.clone().start(&programs)
        )
        .unwrap_or_else(|error| panic!("{error}"));
        Self {
            programs,
            postgres,
            postgres_server: Some(postgres_server),
            redis,
            redis_server: Some(redis_server),
            minio,
            minio_server: Some(minio_server),
        }
    }

    /// What no process may hand to its media children.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secrets = [&self.postgres.password, &self.redis.password, &self.minio.password];
        let mut secrets: Vec<String> = secrets.into_iter().cloned().collect();
        secrets.push(WEBHOOK_TOKEN.to_owned());
        secrets
    }

    pub(crate) fn minio_port(&self) -> u16 {
        self.minio.port
    }

    /// As somebody of the database, through this port.
    pub(crate) fn postgres_url(&self, user: &str, port: u16) -> String {
        format!("postgres://{user}:{}@127.0.0.1:{port}/{DATABASE}", self.postgres.password)
    }

    pub(crate) fn redis_url(&self, port: u16) -> String {
        format!("redis://:{}@127.0.0.1:{port}/0", self.redis.password)
    }

    pub(crate) fn storage_config(&self, port: u16) -> StorageConfig {
        let endpoint: url::Url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        StorageConfig {
            endpoint: endpoint.clone(),
            public_endpoint: endpoint,
            region: "us-east-1".to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: self.minio.user.clone(),
            secret_key: self.minio.password.clone(),
        }
    }

    /// `pg_ctl stop -m immediate`: no checkpoint, no goodbye; the start recovers from the log.
    pub(crate) async fn crash_postgres(&mut self) {
        let server = self.postgres_server.take().expect("it runs");
        signal_server(server.process(), Signal::QUIT);
        server.process().exited().await;
    }

    pub(crate) async fn start_postgres(&mut self) {
        let started = self.postgres.clone().start(&self.programs).await;
        self.postgres_server = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    pub(crate) async fn kill_redis(&mut self) {
        let server = self.redis_server.take().expect("it runs");
        server.process().kill();
        server.process().exited().await;
    }

    pub(crate) async fn start_redis(&mut self, empty: bool) {
        if empty {
            let files = self.redis.directory.join("appendonlydir");
            fs::remove_dir_all(files).expect("its files go");
        }
        let started = self.redis.clone().start(&self.programs).await;
        self.redis_server = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    pub(crate) async fn command_redis(&self, words: &[&str]) {
        self.ask_redis::<()>(words).await;
    }

    async fn ask_redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.redis_url(self.redis.port)).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.expect("Redis does it")
    }

    /// Something else is in the place of its snapshot, so that the next cannot be put there: from then on it refuses writes.
    pub(crate) async fn break_snapshots(&self) {
        fs::create_dir(self.snapshot()).expect("a directory");
        self.command_redis(&["CONFIG", "SET", "save", "3600 1"]).await;
        self.until_snapshot("err").await;
    }

    pub(crate) async fn mend_snapshots(&self) {
        fs::remove_dir(self.snapshot()).expect("it was empty");
        self.until_snapshot("ok").await;
        fs::remove_file(self.snapshot()).expect("it wrote one");
        self.command_redis(&["CONFIG", "SET", "save", ""]).await;
    }

    fn snapshot(&self) -> PathBuf {
        self.redis.directory.join("dump.rdb")
    }

    async fn until_snapshot(&self, status: &str) {
        self.command_redis(&["BGSAVE", "SCHEDULE"]).await;
        let status = format!("rdb_last_bgsave_status:{status}");
        while !self.ask_redis::<String>(&["INFO", "persistence"]).await.contains(&status) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn signal_redis(&self, signal: Signal) {
        signal_server(self.redis_server.as_ref().expect("it runs").process(), signal);
    }

    pub(crate) fn signal_minio(&self, signal: Signal) {
        signal_server(self.minio_server.as_ref().expect("it runs").process(), signal);
    }

    /// kill -9; it comes back a while later.
    pub(crate) async fn restart_minio(&mut self, away: Duration) {
        let mut server = self.minio_server.take().expect("it runs");
        server.kill_and_wait();
        tokio::time::sleep(away).await;
        let started = self.minio.clone().start(&self.programs).await;
        self.minio_server = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }
}

fn signal_server(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(process.pid()).expect("a process id");
    kill_process(pid, signal).expect("it runs");
}

/// It tells nobody of uploads: the harness does, as often and as late as the plan says.
fn minio(directory: &Path) -> Minio {
    let directory = directory.join("minio");
    // A directory that is there before the start is a bucket.
    fs::create_dir_all(directory.join("objects").join(BUCKET)).expect("a bucket");
    Minio {
        log: directory.join("minio.log"),
        directory,
        port: free_port().expect("a port"),
        console_port: free_port().expect("a port"),
        user: "clipstream".to_owned(),
        password: random_hex().expect("random bytes"),
        webhook_url: "http://127.0.0.1:9/webhooks/minio/upload-complete".to_owned(),
        webhook_token: "nobody listens".to_owned(),
    }
}
