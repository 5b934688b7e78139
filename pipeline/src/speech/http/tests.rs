//! The client against a real socket that plays each way in which such a server misbehaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use serde_json::json;

use super::server::MAX_ANSWER_BYTES;
use super::*;

const KEY: &str = "sk-very-secret";

/// Answers one connection after the other with the replies of its script, then hangs up on everybody.
struct Server {
    url: Url,
    requests: mpsc::Receiver<String>,
}

impl Server {
    fn with(script: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (tell, requests) = mpsc::channel();
        thread::spawn(move || {
            for reply in script {
                let (mut connection, _) = listener.accept().expect("a client");
                drop(tell.send(read_request(&mut connection)));
                drop(connection.write_all(reply.as_bytes()));
            }
        });
        Self { url: format!("http://{address}/").parse().expect("a URL"), requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn read_request(connection: &mut TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        request += &line;
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    request + &String::from_utf8_lossy(&body)
}

fn reply(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn ok(body: &serde_json::Value) -> String {
    reply(200, "", &body.to_string())
}

fn hello() -> String {
    ok(&json!({"text": "Hello.", "language": "english",
               "segments": [{"start": 0.1, "end": 0.9, "text": " Hello.", "avg_logprob": -0.1}]}))
}

const SECOND: Interval = Interval { start_ms: 1_000, end_ms: 2_000 };

fn transcriber(url: &Url) -> Transcriber {
    let mut transcriber = Transcriber::new(url, Some(KEY.into()), "whisper-1".into(), None);
    transcriber.first_wait = Duration::from_millis(1);
    transcriber
}

async fn transcribe(server: &Server, speech: &[Interval]) -> Result<Spoken, SpeechError> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sound = Sound::create(&directory.path().join("sound")).expect("a file");
    sound.append(&vec![0; 32_000 * 60]).expect("written");
    transcriber(&server.url).transcribe(speech, &sound, |_| ()).await
}

fn texts(spoken: &Spoken) -> Vec<(u64, &str)> {
    spoken.segments.iter().map(|s| (s.interval.start_ms, s.text.as_str())).collect()
}

#[tokio::test]
async fn a_part_is_sent_as_wav_with_the_key_and_its_times_come_back_on_the_sounds_timeline() {
    let server = Server::with(vec![hello()]);
    let spoken = transcribe(&server, &[SECOND]).await.expect("a transcript");
    assert_eq!(texts(&spoken), [(1_100, "Hello.")]);
    assert_eq!(spoken.language.as_deref(), Some("en"));
    let confidence = spoken.segments[0].confidence.expect("given");
    assert!((confidence - 0.905).abs() < 0.001, "{confidence}");
    let request = server.requests().remove(0);
    for expected in [
        "POST /v1/audio/transcriptions HTTP/1.1",
        "Bearer sk-very-secret",
        "filename=\"speech.wav\"",
        "whisper-1",
        "verbose_json",
        "RIFF",
    ] {
        assert!(request.contains(expected), "{expected} is missing in {request}");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says() {
    let busy = reply(429, "retry-after: 0\r\n", r#"{"error":{"message":"slow down"}}"#);
    let broken = reply(500, "", "{\"error\":\"boom\"}");
    let server = Server::with(vec![busy, broken, String::new(), hello()]);
    let spoken = transcribe(&server, &[SECOND]).await.expect("the fourth try");
    assert_eq!(texts(&spoken), [(1_100, "Hello.")]);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_server_that_stays_broken_is_unavailable() {
    let server = Server::with(vec![reply(503, "", r#"{"detail":"loading"}"#); 4]);
    let error = transcribe(&server, &[SECOND]).await.expect_err("broken");
    assert!(
        matches!(&error, SpeechError::Unavailable(d) if d.contains("503") && d.contains("loading")),
        "{error}"
    );
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_long_retry_after_holds_no_worker() {
    let server = Server::with(vec![reply(429, "retry-after: 3600\r\n", "")]);
    let error = transcribe(&server, &[SECOND]).await.expect_err("busy");
    assert!(matches!(error, SpeechError::Unavailable(_)), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_the_key_is_not_quoted() {
    for status in [401, 403, 404, 413, 415] {
        let body = json!({"error": {"message": format!("Incorrect API key\n\u{1b}[31m {KEY}")}});
        let server = Server::with(vec![reply(status, "", &body.to_string()); 2]);
        let error = transcribe(&server, &[SECOND]).await.expect_err("refused");
        assert!(matches!(error, SpeechError::Refused(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&status.to_string()) && text.contains("Incorrect API key [31m [key]"),
            "{text}"
        );
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::with(vec![hello()]);
    let location = format!("location: {}\r\n", elsewhere.url);
    let server = Server::with(vec![reply(307, &location, "")]);
    let error = transcribe(&server, &[SECOND]).await.expect_err("redirected");
    assert!(matches!(error, SpeechError::Refused(_)), "{error}");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_page_is_no_transcript() {
    for body in ["<html>Sign in</html>", "{}", "[]", "", r#"{"text": 5}"#] {
        let server = Server::with(vec![reply(200, "", body)]);
        let error = transcribe(&server, &[SECOND]).await.expect_err("nonsense");
        assert!(matches!(error, SpeechError::Nonsense(_)), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let huge = format!("{{\"text\": \"{}\"}}", "a".repeat(MAX_ANSWER_BYTES));
    let server = Server::with(vec![reply(200, "", &huge)]);
    let error = transcribe(&server, &[SECOND]).await.expect_err("too long");
    assert!(matches!(&error, SpeechError::Nonsense(d) if d.contains("16 MiB")), "{error}");
}

#[tokio::test]
async fn an_engine_without_times_is_asked_breath_by_breath() {
    let speech = [SECOND, Interval { start_ms: 5_000, end_ms: 6_000 }];
    let refusal = json!({"error": {"message": "response_format 'verbose_json' is not compatible"}});
    let said = |text: &str| ok(&json!({"text": text}));
    for first in [reply(400, "", &refusal.to_string()), reply(422, "", ""), said("One two.")] {
        let server = Server::with(vec![first, said("One."), said("two.")]);
        let spoken = transcribe(&server, &speech).await.expect("a transcript");
        assert_eq!(texts(&spoken), [(1_000, "One."), (5_000, "two.")]);
        assert_eq!(spoken.language, None);
        let requests = server.requests();
        assert!(!requests[1].contains("verbose_json") && requests[2].contains("json"));
    }
}

#[tokio::test]
async fn a_request_that_no_format_mends_is_refused() {
    let server = Server::with(vec![reply(400, "", r#"{"error":"no such model"}"#); 2]);
    let error = transcribe(&server, &[SECOND]).await.expect_err("refused");
    assert!(matches!(&error, SpeechError::Refused(d) if d.contains("no such model")), "{error}");
}

#[tokio::test]
async fn where_nobody_speaks_nobody_is_asked() {
    let server = Server::with(vec![hello()]);
    let spoken = transcribe(&server, &[]).await.expect("nothing to do");
    assert!(spoken.segments.is_empty());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_check_tells_a_wrong_key_from_a_server_without_a_list_of_models() {
    let server = Server::with(vec![reply(404, "", ""), reply(401, "", "who are you")]);
    let transcriber = transcriber(&server.url);
    transcriber.check().await.expect("it answers");
    let error = transcriber.check().await.expect_err("the key is wrong").to_string();
    assert!(error.contains("SPEECH_API_KEY"), "{error}");
    assert!(transcriber.check().await.is_err(), "nobody listens any more");
}
