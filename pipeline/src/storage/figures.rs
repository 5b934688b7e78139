//! What MinIO says of the events it sends: how many wait, how many it gave up. Not an S3 call but its own metrics, behind
//! a token that is signed with our key; a key that is not root's needs the right `admin:Prometheus`.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha512;

use super::error::chain;
use super::{Storage, StorageError};
use crate::clock;

const PATH: &str = "minio/v2/metrics/cluster";
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a token holds: clocks differ a little.
const TOKEN_LIFETIME: Duration = Duration::from_mins(5);

/// Of one webhook target, all servers of MinIO together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetFigures {
    /// Events that wait in the queue on disk; always 0 for a target without one.
    pub queued: u64,
    /// Events that could not be sent, or not be queued, since MinIO started. Lost, for a target without a queue.
    pub failed: u64,
    /// All events since then.
    pub total: u64,
}

/// What MinIO says of its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFigures {
    /// Events dropped before any target saw them, since MinIO started: its memory was full.
    pub skipped: u64,
    /// By the id of the target.
    pub targets: BTreeMap<String, TargetFigures>,
}

impl Storage {
    /// Tried once: whoever asks comes again.
    pub async fn event_figures(&self) -> Result<EventFigures, StorageError> {
        let away = |error: reqwest::Error| {
            StorageError::Unavailable(format!("its metrics: {}", chain(&error.without_url())))
        };
        let url = self.inner.endpoint.join(PATH).map_err(|error| {
            StorageError::Config(format!("MINIO_ENDPOINT leads to no metrics: {error}"))
        })?;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let request = client.map_err(away)?.get(url).bearer_auth(self.metrics_token());
        let answer = request.send().await.map_err(away)?;
        match answer.status().as_u16() {
            200 => Ok(read(&answer.text().await.map_err(away)?)),
            401 | 403 => Err(StorageError::Denied(
                "its metrics are not for this key; allow it `admin:Prometheus`, see minio-setup/policies/worker.json"
                    .to_owned(),
            )),
            status @ 500.. => Err(StorageError::Unavailable(format!("its metrics: HTTP {status}"))),
            status => Err(StorageError::Refused(format!("its metrics: HTTP {status}"))),
        }
    }

    /// As `mc admin prometheus generate` makes it, for a few minutes and not for a hundred years.
    #[must_use]
    pub fn metrics_token(&self) -> String {
        let expires_at = (clock::now() + TOKEN_LIFETIME).unix_timestamp();
        token(self.inner.signer.key(), self.inner.signer.secret(), expires_at)
    }
}

fn token(access_key: &str, secret_key: &str, expires_at: i64) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "HS512", "typ": "JWT" }));
    let claims = part(json!({ "exp": expires_at, "iss": "prometheus", "sub": access_key }));
    let signed = format!("{head}.{claims}");
    let mut mac = Hmac::<Sha512>::new_from_slice(secret_key.as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Lines of the form `name{label="value",…} number`; whatever is not asked for is passed over.
fn read(text: &str) -> EventFigures {
    let mut figures = EventFigures::default();
    for line in text.lines().filter(|line| line.starts_with("minio_notify_")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some(value) = whole(value) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if name == "minio_notify_events_skipped_total" {
            figures.skipped += value;
            continue;
        }
        // Of `id:name`, the id is what we call the target; MinIO swaps the two labels' words.
        let Some(target) = label(labels, "target_id") else { continue };
        let target = figures.targets.entry(target.to_owned()).or_default();
        match name {
            "minio_notify_target_queue_length" => target.queued += value,
            "minio_notify_target_failed_events" => target.failed += value,
            "minio_notify_target_total_events" => target.total += value,
            _ => {}
        }
    }
    figures
}

fn label<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// A count, which MinIO writes as any number: `3`, `1e+06`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a count that a float holds exactly"
)]
fn whole(text: &str) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    (0.0..9e15).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_servers_are_added() {
        let text = "# HELP minio_notify_target_queue_length x\n\
            minio_notify_events_skipped_total{server=\"a\"} 2\n\
            minio_notify_target_queue_length{server=\"a\",target_id=\"CLIPSTREAM\",target_name=\"webhook\"} 3\n\
            minio_notify_target_queue_length{server=\"b\",target_id=\"CLIPSTREAM\",target_name=\"webhook\"} 1e+06\n\
            minio_notify_target_failed_events{server=\"a\",target_id=\"CLIPSTREAMNOW\",target_name=\"webhook\"} 7\n\
            minio_node_disk_free_bytes{disk=\"/data\"} 5\n";
        let figures = read(text);
        assert_eq!(figures.skipped, 2);
        assert_eq!(figures.targets["CLIPSTREAM"].queued, 1_000_003);
        assert_eq!(figures.targets["CLIPSTREAMNOW"].failed, 7);
    }

    #[test]
    fn a_token_holds_the_key_and_not_the_secret() {
        let token = token("key", "hunter2", 1);
        let claims = token.split('.').nth(1).expect("three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
        let claims = String::from_utf8(claims).expect("text");
        assert_eq!(claims, r#"{"exp":1,"iss":"prometheus","sub":"key"}"#);
        // By another implementation: openssl dgst -sha512 -hmac hunter2.
        assert_eq!(token.split('.').nth(2).map(str::len), Some(86));
    }
}
