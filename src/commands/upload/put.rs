//! The PUT to MinIO: streamed from disk, exactly the signed headers, a progress bar on a terminal.
//! Not repeated: after a broken connection the daemon is asked whether the clip has arrived all the same.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Response, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::api::{Api, Created, reason};
use super::{Failure, exit};

const CHUNK_BYTES: usize = 256 * 1024;
const STALL: Duration = Duration::from_mins(2);
/// How long the event of an arrived clip may take: the durable target of MinIO comes within three seconds.
const ARRIVAL_POLLS: u32 = 10;
const ARRIVAL_POLL: Duration = Duration::from_millis(500);

pub(super) async fn put(
    api: &Api,
    file: &Path,
    size_bytes: u64,
    created: &Created,
) -> Result<(), Failure> {
    let bar = progress_bar(size_bytes);
    let body = body(file, size_bytes, &bar).await?;
    // The length is ours to say, else a streamed body goes out in chunks, which MinIO refuses.
    let mut request =
        api.http.put(&created.upload.url).header(CONTENT_LENGTH, size_bytes).body(body);
    for (name, value) in &created.upload.headers {
        if !name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) {
            request = request.header(name, value);
        }
    }
    let sent = tokio::select! {
        sent = request.send() => sent.map_err(|error| Break::from(&error)),
        () = stall(&bar) => Err(Break::stalled()),
    };
    bar.finish_and_clear();
    match sent {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(refused(response).await),
        Err(broken) => after_a_break(api, created, &broken).await,
    }
}

/// Why a PUT ended without an answer.
struct Break {
    reason: String,
    /// Nothing was sent: MinIO was never reached.
    unsent: bool,
}

impl Break {
    fn stalled() -> Self {
        Self { reason: format!("nothing moved for {} s", STALL.as_secs()), unsent: false }
    }
}

impl From<&reqwest::Error> for Break {
    fn from(error: &reqwest::Error) -> Self {
        Self { reason: reason(error), unsent: error.is_connect() }
    }
}

/// Ends when no byte was taken for a while. A whole-request deadline would punish slow lines.
async fn stall(bar: &ProgressBar) {
    let mut before = None;
    while before != Some(bar.position()) {
        before = Some(bar.position());
        tokio::time::sleep(STALL).await;
    }
}

async fn body(file: &Path, size_bytes: u64, bar: &ProgressBar) -> Result<Body, Failure> {
    let file = File::open(file)
        .await
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}.", file.display())))?;
    // A file that grows meanwhile is cut at the size that was announced and signed.
    let bar = bar.clone();
    let chunks = ReaderStream::with_capacity(file.take(size_bytes), CHUNK_BYTES)
        .inspect_ok(move |chunk| bar.inc(chunk.len() as u64));
    Ok(Body::wrap_stream(chunks))
}

fn progress_bar(size_bytes: u64) -> ProgressBar {
    // Draws on stderr, and only on a terminal.
    let bar = ProgressBar::new(size_bytes);
    let template = "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let advice = match status {
        StatusCode::PRECONDITION_FAILED => {
            "An upload with this URL has arrived before. Run the command again for another one."
        }
        StatusCode::FORBIDDEN => {
            "The URL has ended, the file changed its size, or the clocks differ. Run the command again."
        }
        StatusCode::INSUFFICIENT_STORAGE => "MinIO has no room left.",
        _ => "Run the command again; if it stays, ask the operator to run `clipstream doctor`.",
    };
    let text = response.text().await.unwrap_or_default();
    let code = xml_code(&text).map(|code| format!(" {code}")).unwrap_or_default();
    Failure::new(format!("MinIO refused the upload with {status}{code}. {advice}"))
}

/// The error code of an S3 answer; the rest of it repeats the request.
fn xml_code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    code.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(code)
}

/// The clip may be whole in the bucket though its answer was lost: the daemon knows by MinIO's event.
async fn after_a_break(api: &Api, created: &Created, broken: &Break) -> Result<(), Failure> {
    let polls = if broken.unsent { 0 } else { ARRIVAL_POLLS };
    for _ in 0..polls {
        let video = api.video(&created.video_id).await?;
        if video.get("state").and_then(|state| state.as_str()) != Some("uploading") {
            return Ok(());
        }
        tokio::time::sleep(ARRIVAL_POLL).await;
    }
    let code = if broken.unsent { exit::UNREACHABLE } else { 1 };
    let message = format!(
        "The connection to {} broke ({}), and the clip has not arrived. Run the command again; video {} expires unused.",
        created.upload.host(),
        broken.reason,
        created.video_id
    );
    Err(Failure::coded(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_error_code_is_taken_from_an_answer() {
        assert_eq!(xml_code("<Error><Code>AccessDenied</Code></Error>"), Some("AccessDenied"));
        assert_eq!(xml_code("<Code>\u{1b}[31m</Code>"), None);
        assert_eq!(xml_code("<html>"), None);
    }
}
