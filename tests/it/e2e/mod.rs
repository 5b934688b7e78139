//! The real path, end to end, driven by clients that are not ours: curl on the presigned URL, `mc`, boto3.

mod bad_input;
pub(crate) mod clients;
mod faults;
mod good_input;
mod sources;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::support::TestApp;

/// How long a short clip may take on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_mins(3);

/// `GET /v1/videos/{id}`.
async fn video(app: &TestApp, id: Uuid) -> Value {
    let url = format!("{}/v1/videos/{id}", app.url);
    let response =
        reqwest::Client::new().get(url).bearer_auth(&app.api_key).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

/// Waits until a condition holds of the video; says what it was instead when patience ends.
async fn wait_for(app: &TestApp, id: Uuid, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = video(app, id).await;
        if holds(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not {what} after {PATIENCE:?}: {seen:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for the end, whichever it is.
pub(crate) async fn end_of(app: &TestApp, id: Uuid) -> Value {
    wait_for(app, id, "ended", |video| {
        !matches!(video["state"].as_str(), Some("uploading" | "processing"))
    })
    .await
}

/// Uploads as an app developer would, and waits for the end.
async fn upload(app: &TestApp, file: &Path) -> Value {
    let id = clients::announce_and_put(app, file).await;
    end_of(app, id).await
}

fn hls_url(video: &Value) -> Url {
    let url = video["playback"]["hls_url"].as_str();
    url.unwrap_or_else(|| panic!("no playback: {video:#}")).parse().expect("a URL")
}

fn stage<'a>(video: &'a Value, name: &str) -> &'a Value {
    let stages = video["stages"].as_array().expect("stages");
    stages
        .iter()
        .find(|stage| stage["stage"] == name)
        .unwrap_or_else(|| panic!("no {name}: {video:#}"))
}
