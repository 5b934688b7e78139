//! An upgrade that rolls: two versions on one database, the older one at work while the newer one migrates it, started once
//! more on the schema of the newer, and stopped under load. Without more said both are this build; `bench/upgrade.py` builds the last commit before the newest migration
//! and names its program in `UPGRADE_FROM`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clipstream::supervisor::free_port;
use reqwest::{Client, Method};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::support::{
    Daemon, TestMinio, TestRedis, clipstream, empty_database, minio_with_webhook, redis,
};

const TOKEN: &str = "the-token-of-the-upgrade-test";
const PATIENCE: Duration = Duration::from_mins(5);
/// Jobs that each version must have done beside the other one.
const PROGRESS: i64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn while_an_upgrade_rolls_both_versions_work_and_nothing_is_charged() {
    let newer = clipstream();
    let older = std::env::var_os("UPGRADE_FROM").map_or_else(|| newer.to_owned(), PathBuf::from);
    let stack = Stack::new().await;
    let (mut videos, begun) = (Vec::new(), Instant::now());

    stack.tell(&older, &["migrate"]);
    let before = stack.migrations().await;
    let made = stack.tell(&older, &["token", "create", "--json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let key = made["key"].as_str().expect("a key");
    let mut old = Running::start(&stack, &older, stack.webhook_port);
    while stack.done_by(&old).await < PROGRESS {
        assert!(begun.elapsed() < PATIENCE, "the older one does nothing: {}", old.daemon.output());
        videos.push(old.upload(key).await);
    }

    let migrated_in = {
        let begun = Instant::now();
        stack.tell(newer, &["migrate"]);
        begun.elapsed()
    };
    let after = stack.migrations().await;
    let done_before = stack.done_by(&old).await;
    // As a supervisor would after a crash in the middle of it.
    let mut late = Running::start(&stack, &older, free_port().expect("a port"));
    let mut new = Running::start(&stack, newer, free_port().expect("a port"));
    // Announced by either, found by either, worked on by either.
    while stack.done_by(&old).await < done_before + PROGRESS
        || stack.done_by(&new).await < PROGRESS
        || stack.done_by(&late).await == 0
    {
        assert!(begun.elapsed() < PATIENCE, "{}\n{}", old.daemon.output(), new.daemon.output());
        videos.push(old.upload(key).await);
        videos.push(new.upload(key).await);
    }

    for _ in 0..3 {
        videos.push(old.upload(key).await);
    }
    old.daemon.signal(Signal::TERM);
    late.daemon.signal(Signal::TERM);
    // MinIO's events lead to a daemon that is gone: the other one finds these.
    for _ in 0..3 {
        videos.push(new.upload(key).await);
    }
    for older in [&mut old, &mut late] {
        assert!(older.daemon.ended().success(), "{}", older.daemon.output());
    }
    let done_by_old = stack.done_by(&old).await;
    let ready = "select count(*) from videos where state = 'ready'";
    let all = i64::try_from(videos.len()).expect("few");
    while stack.count(ready).await < all {
        assert!(begun.elapsed() < PATIENCE, "{} of {all} are ready", stack.count(ready).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let charged =
        "select count(*) from jobs where failures + crashes + lost_workers > 0 or state <> 'done'";
    assert_eq!(stack.count(charged).await, 0);
    assert_eq!(
        stack.count("select count(*) from videos").await,
        all,
        "no upload became two videos"
    );
    for running in [&old, &late, &new] {
        let log = running.daemon.output();
        assert!(!log.contains("ERROR"), "{log}");
    }
    let figures = json!({
        "videos": videos.len(), "ready": all, "charged": 0,
        "migrations_before": before, "migrations_after": after, "migrated_in_ms": migrated_in.as_millis(),
        "jobs_by_the_older_before": done_before,
        "jobs_by_the_older_beside_the_newer": done_by_old - done_before,
        "jobs_by_an_older_started_late": stack.done_by(&late).await,
        "jobs_by_the_newer": stack.done_by(&new).await,
        "seconds": begun.elapsed().as_secs(),
    });
    eprintln!("{figures}");
    if let Some(path) = std::env::var_os("UPGRADE_RESULTS") {
        std::fs::write(path, figures.to_string()).expect("written");
    }
}

/// What both versions share.
struct Stack {
    database_url: String,
    pool: PgPool,
    redis: TestRedis,
    minio: TestMinio,
    webhook_port: u16,
}

impl Stack {
    async fn new() -> Self {
        let webhook_port = free_port().expect("a port");
        let webhook = format!("http://127.0.0.1:{webhook_port}/webhooks/minio/upload-complete");
        let (database_url, redis, minio) =
            tokio::join!(empty_database(), redis(), minio_with_webhook(&webhook, TOKEN));
        let pool = PgPool::connect_lazy(&database_url).expect("a URL of our own");
        Self { database_url, pool, redis, minio, webhook_port }
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment: Vec<(&str, OsString)> = vec![
            ("DATABASE_URL", self.database_url.clone().into()),
            ("REDIS_URL", self.redis.url.clone().into()),
            ("REDIS_PREFIX", self.redis.prefix.clone().into()),
            ("MINIO_ENDPOINT", self.minio.endpoint.as_str().into()),
            ("MINIO_ACCESS_KEY", self.minio.access_key.clone().into()),
            ("MINIO_SECRET_KEY", self.minio.secret_key.clone().into()),
            ("MINIO_WEBHOOK_TOKEN", TOKEN.into()),
            ("API_HOST", "127.0.0.1".into()),
            ("CLIPSTREAM_RECONCILE_SECONDS", "1".into()),
            ("CLIPSTREAM_LOG_FORMAT", "text".into()),
        ];
        let model = std::env::var_os("CLIPSTREAM_VAD_MODEL");
        environment.extend(model.map(|model| ("CLIPSTREAM_VAD_MODEL", model)));
        environment
    }

    /// One command of a version, and what it says.
    fn tell(&self, program: &Path, arguments: &[&str]) -> String {
        let mut command = Daemon::command_of(program);
        let output = command.args(arguments).envs(self.environment()).output().expect("it starts");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("a count")
    }

    async fn migrations(&self) -> i64 {
        self.count("select count(*) from _sqlx_migrations").await
    }

    async fn done_by(&self, running: &Running) -> i64 {
        sqlx::query_scalar(
            "select count(*) from job_attempts where worker = $1 and outcome = 'done'",
        )
        .bind(running.worker)
        .fetch_one(&self.pool)
        .await
        .expect("a count")
    }
}

/// A daemon with all roles.
struct Running {
    daemon: Daemon,
    api: String,
    worker: Uuid,
}

impl Running {
    fn start(stack: &Stack, program: &Path, port: u16) -> Self {
        let mut command = Daemon::command_of(program);
        command.arg("serve").envs(stack.environment()).env("API_PORT", port.to_string());
        let mut daemon = Daemon::start(command);
        daemon.until_output("worker started");
        let said = daemon.output();
        let (_, id) = said.split_once("worker.id=").expect("it says who it is");
        let worker = id[..36].parse().expect("a UUID");
        Self { daemon, api: format!("http://127.0.0.1:{port}"), worker }
    }

    /// Announced here and PUT to MinIO; no two have the same bytes.
    async fn upload(&mut self, key: &str) -> Uuid {
        let file =
            clip("upgrade.mp4", &format!("{} {H264_AAC}", picture_and_tone("160x90", "10", 1.0)));
        let mut body = std::fs::read(file).expect("the clip");
        // A box that players pass over.
        body.extend_from_slice(b"\0\0\0\x18free");
        body.extend_from_slice(Uuid::now_v7().as_bytes());
        let client = Client::new();
        let request =
            json!({"filename": "clip.mp4", "size": body.len(), "content_type": "video/mp4"});
        let answer = client.post(format!("{}/v1/videos", self.api)).bearer_auth(key).json(&request);
        let answer = answer.send().await.expect("an answer");
        assert_eq!(answer.status(), 201, "{}", self.daemon.output());
        let announced: Value = answer.json().await.expect("JSON");
        let url = announced["upload"]["url"].as_str().expect("a URL");
        let mut put = client.request(Method::PUT, url).body(body);
        for (name, value) in announced["upload"]["headers"].as_object().expect("headers") {
            put = put.header(name, value.as_str().expect("text"));
        }
        assert!(put.send().await.expect("MinIO answers").status().is_success());
        announced["video_id"].as_str().expect("an id").parse().expect("a UUID")
    }
}
