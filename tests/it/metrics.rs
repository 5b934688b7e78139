//! `/metrics` of a real daemon: that it counts what happened, and that every name which the dashboard, the alert rules
//! and the documents use is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use clipstream::supervisor::free_port;
use pipeline::db::Announcer;
use pipeline::event::CreatedObject;
use pipeline::job::WorkerId;
use pipeline::stage::Stage;
use pipeline::storage::{Storage, webhook_targets};
use std::time::Duration;

use crate::db_actors::{DEADLINE, arrived, job_of};
use crate::support::{Daemon, TestDatabase, TestMinio, TestRedis, app, database, minio, redis};

/// Series to value, as `curl` sees them.
fn scrape(url: &str) -> Option<BTreeMap<String, f64>> {
    let output = Command::new("curl").args(["-fsS", "-m", "10", url]).output().expect("curl");
    let text = String::from_utf8(output.stdout).ok().filter(|text| !text.is_empty())?;
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    });
    Some(series.collect())
}

struct World {
    database: TestDatabase,
    redis: TestRedis,
    minio: TestMinio,
    daemon: Daemon,
    api: String,
    metrics: String,
}

/// A daemon of its own process, whose counts nobody else moves.
async fn world() -> World {
    let (database, redis, minio) = tokio::join!(database(), redis(), minio());
    let (port, metrics_port) = (free_port().expect("a port"), free_port().expect("a port"));
    let mut command = Daemon::command();
    command
        .arg("serve")
        .env("DATABASE_URL", &database.url)
        .env("REDIS_URL", &redis.url)
        .env("REDIS_PREFIX", &redis.prefix)
        .env("MINIO_ENDPOINT", minio.endpoint.as_str())
        .env("MINIO_ACCESS_KEY", &minio.access_key)
        .env("MINIO_SECRET_KEY", &minio.secret_key)
        .env("MINIO_WEBHOOK_TOKEN", "a-token-of-this-test")
        .env("API_HOST", "127.0.0.1")
        .env("API_PORT", port.to_string())
        .env("METRICS_PORT", metrics_port.to_string());
    let daemon = Daemon::start(command);
    let api = format!("http://127.0.0.1:{port}");
    let metrics = format!("http://127.0.0.1:{metrics_port}/metrics");
    World { database, redis, minio, daemon, api, metrics }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_what_happened_and_tells_what_the_rows_say() {
    let mut world = world().await;
    let metrics = world.metrics.clone();
    let db = world.database.db.clone();
    db.pause(Stage::Embeddings, None).await.expect("paused");

    // A job whose worker is gone, one whose source is gone, and a caller without the token.
    let lost = arrived(&db).await;
    let job = job_of(world.database.pool(), lost, Stage::DuplicateDetection).await;
    db.claim(job, WorkerId::new(), Duration::ZERO, DEADLINE).await.expect("an answer");
    let object = CreatedObject {
        bucket: "clipstream".to_owned(),
        key: "raw-uploads/gone.mp4".to_owned(),
        etag: Some("e".to_owned()),
        version_id: None,
        size_bytes: 4,
        content_type: None,
        sequencer: None,
    };
    db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
    let webhook = format!("{}/webhooks/minio/upload-complete", world.api);
    world.daemon.until("the webhook answers", || {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", &webhook]);
        (curl.output().expect("curl").stdout == b"401").then_some(())
    });

    let settled = |series: &BTreeMap<String, f64>| {
        let at_least = |name: &str, value: f64| series.get(name).is_some_and(|is| *is >= value);
        at_least("clipstream_expired_leases_total", 1.0)
            && at_least("clipstream_webhook_deliveries_total{result=\"unauthorized\"}", 1.0)
            && at_least("clipstream_job_wait_seconds_count{stage=\"duplicate_detection\"}", 2.0)
            && series.iter().any(|(name, value)| {
                name.starts_with("clipstream_job_attempts_total")
                    && name.contains("outcome=\"dead\"")
                    && *value >= 1.0
            })
            && series.iter().any(|(name, value)| {
                name.starts_with("clipstream_queue_jobs")
                    && name.contains("state=\"dead\"")
                    && *value >= 1.0
            })
    };
    let series = world.daemon.until("it counted", || scrape(&metrics).filter(&settled));

    assert!(series["clipstream_queue_paused{stage=\"embeddings\"}"] > 0.5);
    assert!(series["clipstream_queue_paused{stage=\"transcode\"}"] < 0.5);
    assert!(series["clipstream_scratch_free_bytes"] > 1e6);
    for layer in ["process", "limits", "namespaces", "landlock", "seccomp"] {
        assert!(series[&format!("clipstream_sandbox_layer{{layer=\"{layer}\"}}")] > 0.5);
    }
    // Nobody scraped before the source had its row.
    assert!(series["clipstream_storage_bytes{kind=\"sources\"}"] >= 4.0);
    assert!(series["clipstream_dependency_up{dependency=\"redis\"}"] > 0.5);
    // From the first scrape, also what never happened.
    let quiet = "clipstream_attempts_stopped_total{reason=\"shutdown\"}";
    assert!(series.get(quiet).is_some_and(|count| *count < 0.5), "{series:#?}");
    assert!(!world.redis.prefix.is_empty() && world.minio.pid() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_in_dashboard_rules_and_documents_is_in_a_real_answer() {
    let app = app().await;
    // The first events: MinIO names a target's figures once it has met it.
    let s3 = crate::s3_client::S3Client::new(&app.minio.storage_config());
    s3.put("raw-uploads/a.mp4", b"clip").await;
    let storage = Storage::new(&app.minio.storage_config()).expect("settings");
    storage.ensure_notifications(&webhook_targets()).await.expect("rules");
    let minio = format!("{}minio/v2/metrics/cluster", app.minio.endpoint);
    let answer = reqwest::Client::new().get(minio).bearer_auth(storage.metrics_token());
    let theirs = answer.send().await.expect("MinIO answers").text().await.expect("text");
    let answer = reqwest::get(&app.metrics_url).await.expect("an answer");
    let content_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    let ours = answer.text().await.expect("text");

    let known: Vec<&str> =
        ours.lines().chain(theirs.lines()).filter_map(|line| name_at(line, 0)).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for file in [
        "deploy/grafana/clipstream.json",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/prometheus.yml",
        "docs/operations.md",
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let mut names = 0;
        for prefix in ["clipstream_", "minio_"] {
            for (at, _) in text.match_indices(prefix) {
                // In the middle of another word, or the name of a group or file.
                let before = text[..at].chars().next_back().unwrap_or(' ');
                let Some(name) =
                    name_at(&text, at).filter(|_| !before.is_alphanumeric() && before != '_')
                else {
                    continue;
                };
                names += 1;
                if !known.contains(&name) {
                    wrong.push(format!("{file}: {name}"));
                }
            }
        }
        let has_some = file.contains("grafana") || file.contains("alerts");
        assert!(names > 0 || !has_some, "{file} names no metric at all");
    }
    assert!(wrong.is_empty(), "no answer has these: {wrong:#?}");
}

#[test]
fn every_alert_has_its_place_in_the_document_and_the_document_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).expect(file);
    let (rules, document) = (read("deploy/prometheus/alerts.yml"), read("docs/operations.md"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("**Clipstream")?.split_once(".**"))
        .map(|(name, _)| name)
        .collect();
    let named: Vec<String> = sections.iter().map(|name| format!("Clipstream{name}")).collect();
    assert_eq!(named, alerts);
}

/// The name of a metric that begins here.
fn name_at(text: &str, at: usize) -> Option<&str> {
    let rest = &text[at..];
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}
