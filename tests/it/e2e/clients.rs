//! Uploads by programs that users have: nothing here is clipstream's.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::TestApp;

/// `POST /v1/videos`, then curl with exactly the headers of the answer.
pub(crate) async fn announce_and_put(app: &TestApp, file: &Path) -> Uuid {
    let announced = announce(app, file).await;
    put_with_curl(&announced["upload"], file).await;
    id_of(&announced)
}

pub(super) fn id_of(announced: &Value) -> Uuid {
    announced["video_id"].as_str().expect("video_id").parse().expect("a UUID")
}

pub(super) async fn announce(app: &TestApp, file: &Path) -> Value {
    let size = std::fs::metadata(file).expect("the file is there").len();
    let request = json!({
        "filename": file.file_name().and_then(|name| name.to_str()),
        "size": size.max(1),
        "content_type": "video/mp4",
        "title": "an end-to-end test",
        "stream_id": "tests",
    });
    let url = format!("{}/v1/videos", app.url);
    let client = reqwest::Client::new();
    let answer = client.post(url).bearer_auth(&app.api_key).json(&request).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 201);
    answer.json().await.expect("JSON")
}

pub(super) async fn put_with_curl(upload: &Value, file: &Path) {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--request",
        "PUT",
        "--upload-file",
    ]);
    curl.arg(file);
    for (name, value) in upload["headers"].as_object().expect("headers") {
        curl.arg("--header").arg(format!("{name}: {}", value.as_str().expect("text")));
    }
    curl.arg(upload["url"].as_str().expect("a URL"));
    run(curl).await;
}

/// `mc cp` to any key under `raw-uploads/`.
pub(super) async fn put_with_mc(app: &TestApp, file: &Path, key: &str) {
    let minio = &app.minio;
    let home = tempfile::tempdir().expect("a directory");
    let host = format!(
        "http://{}:{}@{}:{}",
        minio.access_key,
        minio.secret_key,
        minio.endpoint.host_str().expect("a host"),
        minio.endpoint.port().expect("a port"),
    );
    // The set-up puts it where it puts MinIO, unless it was on the PATH.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(cache().join("bin"));
    let mut mc = Command::new("mc");
    mc.env("PATH", path)
        .env("MC_HOST_test", host)
        .arg("--config-dir")
        .arg(home.path())
        .args(["--quiet", "cp"]);
    mc.arg(file).arg(format!("test/{}/{key}", minio.bucket));
    run(mc).await;
}

/// boto3 in the tests' own Python environment.
pub(super) async fn put_with_boto3(app: &TestApp, file: &Path, key: &str) {
    let minio = &app.minio;
    let mut python = Command::new(cache().join("test-tools/bin/python"));
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/put_object.py"));
    python.args([
        minio.endpoint.as_str(),
        &minio.access_key,
        &minio.secret_key,
        &minio.bucket,
        key,
    ]);
    python.arg(file);
    run(python).await;
}

/// Where `make test` keeps what it fetched.
fn cache() -> std::path::PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let home = || std::path::Path::new(&std::env::var_os("HOME").expect("HOME")).join(".cache");
    cache.unwrap_or_else(home).join("clipstream")
}

#[expect(clippy::disallowed_methods, reason = "awaited to its end right here")]
async fn run(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let output = output.expect("the program is installed by make test");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {complaint} {said}", output.status);
}

/// The one video of a key that nobody announced, once it is there.
pub(super) async fn video_of_key(app: &TestApp, key: &str) -> Uuid {
    let begun = std::time::Instant::now();
    loop {
        let found: Option<Uuid> = sqlx::query_scalar("select id from videos where object_key = $1")
            .bind(key)
            .fetch_optional(&app.pool)
            .await
            .expect("a query");
        if let Some(id) = found {
            return id;
        }
        assert!(begun.elapsed() < super::PATIENCE, "no video for {key}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
