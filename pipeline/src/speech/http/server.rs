//! One exchange with an engine's server: how a request is put, how much of an answer is read, and what a status means.
//! It never follows a redirect (the sound and the key would go elsewhere) and never repeats the key in a message.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::RETRY_AFTER;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, redirect};
use url::Url;

use super::super::SpeechError;
use super::super::answer::Answer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why one request did not lead to an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Busy or away: ask again, after this long if it says so.
    Passing {
        detail: String,
        after: Option<Duration>,
    },
    /// The request itself is refused: the same one will be refused again.
    Unacceptable(String),
    Final(SpeechError),
}

impl From<Failure> for SpeechError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing { detail, .. } => SpeechError::Unavailable(detail),
            Failure::Unacceptable(detail) => SpeechError::Refused(detail),
            Failure::Final(error) => error,
        }
    }
}

/// What is asked of an engine about one sound.
pub(super) struct Question<'a> {
    pub(super) wav: &'a Bytes,
    pub(super) model: &'a str,
    pub(super) language: Option<&'a str>,
    /// `verbose_json` or `json`.
    pub(super) format: &'static str,
    pub(super) timeout: Duration,
}

/// Where an engine answers.
pub(super) struct Server {
    client: Client,
    transcriptions: Url,
    models: Url,
    api_key: Option<String>,
}

impl Server {
    /// At `base`, with or without `/v1` at its end.
    pub(super) fn new(base: &Url, api_key: Option<String>) -> Self {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            // Settings come from config.rs alone, not from HTTP_PROXY.
            .no_proxy()
            .build()
            .expect("the TLS library of this build starts");
        Self {
            client,
            transcriptions: endpoint(base, &["audio", "transcriptions"]),
            models: endpoint(base, &["models"]),
            api_key,
        }
    }

    /// One transcription, not repeated here.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        let wav = question.wav;
        // The file name's extension tells servers the format.
        let file = Part::stream_with_length(Body::from(wav.clone()), wav.len() as u64)
            .file_name("speech.wav")
            .mime_str("audio/wav")
            .expect("a media type");
        let mut form = Form::new()
            .part("file", file)
            .text("model", question.model.to_owned())
            .text("response_format", question.format);
        if let Some(language) = question.language {
            form = form.text("language", language.to_owned());
        }
        let request = self.client.post(self.transcriptions.clone());
        let request = request.multipart(form).timeout(question.timeout);
        let (status, after, body) = self.send(request).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                let start = self.quote(&body);
                Failure::Final(SpeechError::Nonsense(format!("{error}; it begins {start:?}")))
            });
        }
        let detail = format!("{status}: {}", self.complaint(&body));
        Err(match status.as_u16() {
            400 | 422 => Failure::Unacceptable(detail),
            408 | 429 | 500.. => Failure::Passing { detail, after },
            300..400 => Failure::Final(SpeechError::Refused(format!(
                "{status}: it sends us to another address; set SPEECH_URL to the one that answers"
            ))),
            _ => Failure::Final(SpeechError::Refused(detail)),
        })
    }

    /// Whether a server answers that accepts the key. Asks for its models, which costs nothing; small servers know
    /// transcriptions only and say 404 or 501 here.
    pub(super) async fn check(&self) -> Result<(), SpeechError> {
        let request = self.client.get(self.models.clone()).timeout(CHECK_TIMEOUT);
        let (status, _, body) = self.send(request).await.map_err(SpeechError::from)?;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SpeechError::Refused(format!(
                "{status}: {}; check SPEECH_API_KEY",
                self.complaint(&body)
            ))),
            StatusCode::NOT_IMPLEMENTED => Ok(()),
            status if status.is_server_error() => {
                Err(SpeechError::Unavailable(format!("{status}: {}", self.complaint(&body))))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn host(&self) -> &str {
        self.models.host_str().unwrap_or_default()
    }

    /// One exchange, bounded in time and size.
    async fn send(
        &self,
        mut request: RequestBuilder,
    ) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Failure> {
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let mut response = request.send().await.map_err(lost)?;
        let after = retry_after(&response);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let limit = MAX_ANSWER_BYTES / 1024 / 1024;
                return Err(Failure::Final(SpeechError::Nonsense(format!("over {limit} MiB"))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), after, body))
    }

    /// What an error answer says: `{"error": {"message": …}}`, `{"error": …}`, `{"detail": …}`, or its first words.
    fn complaint(&self, body: &[u8]) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let message = json.as_ref().and_then(|json| {
            [&json["error"]["message"], &json["error"], &json["detail"], &json["message"]]
                .into_iter()
                .find_map(serde_json::Value::as_str)
        });
        self.quote(message.map_or(body, str::as_bytes))
    }

    /// The first words of what a server said, fit for a log line: no control characters, no key of ours.
    fn quote(&self, text: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(&text[..text.len().min(4_096)]).into_owned();
        if let Some(key) = self.api_key.as_deref().filter(|key| !key.is_empty()) {
            text = text.replace(key, "[key]");
        }
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        line.chars().take(200).collect()
    }
}

/// `{base}/v1/{path}`; most people set a base that ends in `/v1` already.
fn endpoint(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    let versioned = base.path().trim_end_matches('/').ends_with("/v1");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        if !versioned {
            segments.push("v1");
        }
        segments.extend(path);
    }
    url
}

/// No answer, or not all of it.
fn lost(error: reqwest::Error) -> Failure {
    // The URL may hold a password.
    let error = error.without_url();
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Failure::Passing { detail, after: None }
}

/// In seconds; the form with a date is rare, and our own back-off does for it.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_may_end_in_v1_or_not() {
        for (base, expected) in [
            ("http://host:1", "http://host:1/v1/models"),
            ("http://host/v1", "http://host/v1/models"),
            ("http://host/v1/", "http://host/v1/models"),
            ("http://host/speech/?key=1#x", "http://host/speech/v1/models"),
        ] {
            assert_eq!(endpoint(&base.parse().expect("a URL"), &["models"]).as_str(), expected);
        }
    }
}
