//! `clipstream doctor` and `clipstream setup minio` as a person runs them: the binary, its output, its exit code.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pipeline::storage::{Storage, webhook_targets};
use serde_json::Value;

use crate::http_server::{WEBHOOK_TOKEN, World};
use crate::s3_client::S3Client;
use crate::support::{TestApp, app, clipstream, minio};

const FOUND_PROBLEMS: i32 = 7;

/// The binary with nothing from the environment of the test.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(clipstream());
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

fn doctor(app: &TestApp) -> Command {
    let mut command = command(&["doctor", "--json"]);
    command
        .env("DATABASE_URL", &app.database.url)
        .env("REDIS_URL", &app.redis.url)
        .env("REDIS_PREFIX", &app.redis.prefix)
        .env("MINIO_ENDPOINT", app.minio.endpoint.as_str())
        .env("MINIO_ACCESS_KEY", &app.minio.access_key)
        .env("MINIO_SECRET_KEY", &app.minio.secret_key)
        .env("MINIO_WEBHOOK_TOKEN", &app.webhook_token)
        .env("CLIPSTREAM_SCRATCH", std::env::temp_dir())
        // So that the outcome does not depend on what this machine has.
        .env("CLIPSTREAM_VAD_MODEL", "/nowhere/model.onnx");
    command
}

/// Check to verdict; where a check has several findings, the last.
fn verdicts(output: &Output) -> BTreeMap<String, String> {
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let checks = document["checks"].as_array().expect("checks");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    checks.iter().map(|check| (text(&check["check"]), text(&check["verdict"]))).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn a_healthy_installation_passes_and_the_probe_leaves_nothing() {
    let app = app().await;
    let output = doctor(&app).output().expect("it runs");
    let verdicts = verdicts(&output);
    for (check, verdict) in &verdicts {
        let wanted = if check == "speech" { "fail" } else { "ok" };
        // Settings of the test's servers that trade safety for speed are told, and are no failure.
        let told = verdict == "warn" && ["postgres", "redis", "scratch"].contains(&check.as_str());
        assert!(verdict == wanted || told, "{check}: {}", text(&output));
    }
    for check in [
        "postgres",
        "schema",
        "redis",
        "minio",
        "bucket",
        "bucket policy",
        "event rules",
        "event queue",
        "round trip",
    ] {
        assert!(verdicts.contains_key(check), "{check} is missing: {verdicts:?}");
    }
    assert_eq!(output.status.code(), Some(FOUND_PROBLEMS), "the model is missing");

    let rows = "select (select count(*) from quarantined_events) + (select count(*) from videos)";
    let left: i64 = sqlx::query_scalar(rows).fetch_one(&app.pool).await.expect("a count");
    assert_eq!(left, 0);
    assert_eq!(app.storage.list("raw-uploads/", "", 10).await.expect("a listing"), []);
    assert!(!text(&output).contains(&app.minio.secret_key), "a secret was printed");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_and_missing_rules_are_found() {
    let mut app = app().await;
    app.stop();
    let output = doctor(&app).output().expect("it runs");
    assert_eq!(verdicts(&output)["round trip"], "fail", "{}", text(&output));
    assert!(text(&output).contains("clipstream serve"), "says what to do: {}", text(&output));
    assert_eq!(output.status.code(), Some(FOUND_PROBLEMS));

    let s3 = S3Client::new(&app.minio.storage_config());
    s3.put_config("notification", "<NotificationConfiguration></NotificationConfiguration>").await;
    let output = doctor(&app).output().expect("it runs");
    assert_eq!(verdicts(&output)["event rules"], "fail", "{}", text(&output));
    assert!(text(&output).contains("clipstream setup minio"), "{}", text(&output));
}

#[test]
fn with_nothing_set_every_check_says_which_setting_it_wants() {
    let output = command(&["doctor"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(FOUND_PROBLEMS));
    let text = text(&output);
    for setting in ["DATABASE_URL", "REDIS_", "MINIO_ENDPOINT", "MINIO_WEBHOOK_TOKEN"] {
        assert!(text.contains(setting), "{setting}: {text}");
    }
    assert!(text.contains("skip  round trip"), "{text}");
}

#[tokio::test]
async fn setup_says_what_it_made_and_then_what_it_found() {
    let minio = minio().await;
    let setup = |arguments: &[&str]| {
        command(&[&["setup", "minio"], arguments].concat())
            .env("MINIO_ENDPOINT", minio.endpoint.as_str())
            .env("MINIO_ACCESS_KEY", &minio.access_key)
            .env("MINIO_SECRET_KEY", &minio.secret_key)
            .output()
            .expect("it runs")
    };
    let first = setup(&[]);
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(
        String::from_utf8_lossy(&first.stdout),
        "bucket clipstream: present\n\
         public read of playback and thumbnails: made\n\
         event rule CLIPSTREAMNOW: made\n\
         event rule CLIPSTREAM: made\n"
    );
    let second = setup(&["--json"]);
    let document: Value = serde_json::from_slice(&second.stdout).expect("JSON");
    assert_eq!(document["policy"]["state"], "present");
    assert_eq!(document["event_rules"][1]["state"], "present");
    assert_eq!(document["missing_targets"], serde_json::json!([]));
}

#[test]
fn a_minio_that_is_away_and_one_that_is_not_set_have_exit_codes_of_their_own() {
    let away = command(&["setup", "minio"])
        .env("MINIO_ENDPOINT", "http://127.0.0.1:9")
        .env("MINIO_ACCESS_KEY", "key")
        .env("MINIO_SECRET_KEY", "hunter2hunter2")
        .output()
        .expect("it runs");
    assert_eq!(away.status.code(), Some(5), "{}", text(&away));
    assert!(!text(&away).contains("hunter2"), "{}", text(&away));
    let unset = command(&["setup", "minio"]).output().expect("it runs");
    assert_eq!(unset.status.code(), Some(2), "{}", text(&unset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_stuck_is_named_with_its_cause() {
    // Nobody listens where its events go, so the first one waits for ever.
    let (minio, world) = tokio::join!(minio(), World::new());
    let storage = Storage::new(&minio.storage_config()).expect("settings");
    storage.ensure_notifications(&webhook_targets()).await.expect("rules");
    S3Client::new(&minio.storage_config()).put("raw-uploads/a.mp4", b"clip").await;
    let begun = Instant::now();
    while storage.event_figures().await.expect("figures").targets.values().all(|t| t.queued == 0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "MinIO does not count it");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let here = world.server.url("/webhooks/minio/upload-complete");
    for (url, token, verdict, says) in [
        (
            "http://127.0.0.1:9/webhooks/minio/upload-complete",
            "any-token-of-a-length",
            "fail",
            "nobody answers at",
        ),
        (here.as_str(), "not-the-token-of-it", "fail", "another MINIO_WEBHOOK_TOKEN"),
        (here.as_str(), WEBHOOK_TOKEN, "warn", "_AUTH_TOKEN_CLIPSTREAM"),
    ] {
        let output = command(&["doctor", "--json"])
            .env("MINIO_ENDPOINT", minio.endpoint.as_str())
            .env("MINIO_ACCESS_KEY", &minio.access_key)
            .env("MINIO_SECRET_KEY", &minio.secret_key)
            .env("MINIO_WEBHOOK_URL", url)
            .env("MINIO_WEBHOOK_TOKEN", token)
            .output()
            .expect("it runs");
        assert_eq!(verdicts(&output)["event queue"], verdict, "{}", text(&output));
        assert!(text(&output).contains(says), "{}", text(&output));
        assert!(!text(&output).contains(token), "the token was printed");
    }
}
