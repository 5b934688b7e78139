//! The few calls of `/v1` that the client commands make, and how their errors read to a person.
//! Never prints the API key, and never a presigned URL.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{Failure, exit};
use crate::config::ClientSettings;

const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// What the daemon is told of a clip.
#[derive(Serialize)]
pub(super) struct Announcement {
    pub(super) filename: String,
    pub(super) size: u64,
    pub(super) content_type: String,
    pub(super) title: Option<String>,
    pub(super) stream_id: Option<String>,
}

/// Where the bytes go.
#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) video_id: String,
    pub(super) upload: Target,
}

#[derive(Deserialize)]
pub(super) struct Target {
    /// Whoever has it can upload: never shown.
    pub(super) url: String,
    pub(super) headers: std::collections::BTreeMap<String, String>,
}

impl Target {
    /// What may be shown of the URL.
    pub(super) fn host(&self) -> String {
        let host = Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.unwrap_or_else(|| "MinIO".to_owned())
    }
}

/// A daemon and a key for it.
pub(super) struct Api {
    /// Without a deadline for whole requests: the PUT takes as long as it takes.
    pub(super) http: Client,
    base: Url,
    key: String,
}

impl Api {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, Failure> {
        let key = settings.api_key.clone().filter(|key| !key.is_empty()).ok_or_else(|| {
            Failure::new(
                "No API key. Set CLIPSTREAM_API_KEY or give --api-key; `clipstream token create` makes one, \
                 and `clipstream dev` writes one to .clipstream/dev.env.",
            )
        })?;
        let http = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::new(format!("The HTTP client does not start: {error}.")))?;
        Ok(Self { http, base: settings.url.clone(), key })
    }

    pub(super) async fn announce(&self, announcement: &Announcement) -> Result<Created, Failure> {
        let request = self.http.post(self.url(&["v1", "videos"])?).json(announcement);
        let answer = self.call(request).await?;
        serde_json::from_value(answer)
            .map_err(|error| Failure::new(format!("The daemon's answer makes no sense: {error}.")))
    }

    pub(super) async fn video(&self, video_id: &str) -> Result<Value, Failure> {
        self.call(self.http.get(self.url(&["v1", "videos", video_id])?)).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::new(format!("CLIPSTREAM_URL {} is no http URL.", self.base)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn call(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let request = request.bearer_auth(&self.key).timeout(CALL_DEADLINE);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return response.json().await.map_err(|error| self.unreachable(&error));
        }
        Err(refused(response).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason = reason(error);
        let message = format!(
            "{} does not answer ({reason}). Is the daemon up, and is CLIPSTREAM_URL right?",
            self.base
        );
        Failure::coded(exit::UNREACHABLE, message)
    }
}

/// The innermost reason: the outer ones repeat the URL.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let problem: Option<Value> = response.json().await.ok();
    let detail = problem
        .as_ref()
        .and_then(|problem| problem.get("detail")?.as_str())
        .unwrap_or("it gave no reason")
        .to_owned();
    let hint = match status {
        StatusCode::UNAUTHORIZED => {
            " The key is unknown or revoked; `clipstream token create` makes one."
        }
        _ => "",
    };
    let code = if status == StatusCode::SERVICE_UNAVAILABLE { exit::UNREACHABLE } else { 1 };
    Failure::coded(code, format!("The daemon refused with {status}: {detail}{hint}"))
}
