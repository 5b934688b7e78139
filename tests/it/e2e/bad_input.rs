//! Bad input ends as `failed` with a cause that a person understands; nothing hangs, nothing leaks, nothing is contacted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;

use super::{clients, end_of, upload};
use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::support::{self, app_with};

fn written(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, bytes).expect("a file can be written");
    path
}

fn assert_failed(video: &Value, cause: &str) {
    assert_eq!(video["state"], "failed", "{video:#}");
    assert_eq!(video["failure"]["cause"], cause, "{video:#}");
    let detail = video["failure"]["detail"].as_str().unwrap_or_default();
    assert!(detail.len() > 20, "the detail says too little: {detail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_fails_with_what_was_declared_and_what_was_there() {
    let app = support::app().await;
    let recipe =
        format!("{} {H264_AAC} -movflags +faststart", picture_and_tone("640x480", "30", 12.0));
    let whole = std::fs::read(clip("faststart.mp4", &recipe)).expect("the clip");
    let directory = tempfile::tempdir().expect("a directory");
    let cut = written(directory.path(), "cut.mp4", &whole[..whole.len() / 2]);
    let video = upload(&app, &cut).await;
    assert_failed(&video, "truncated");
    assert!(
        video["failure"]["detail"].as_str().is_some_and(|text| text.contains("12")),
        "{video:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_media_fail_with_their_cause() {
    let app = support::app().await;
    let directory = tempfile::tempdir().expect("a directory");
    let recipe = format!("{} {H264_AAC}", picture_and_tone("640x480", "30", 2.0));
    let whole = std::fs::read(clip("moov-at-end.mp4", &recipe)).expect("the clip");
    let moov = whole.windows(4).rposition(|bytes| bytes == b"moov").expect("a moov box");

    let noise: Vec<u8> =
        (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let no_moov = written(directory.path(), "no-moov.mp4", &whole[..moov - 4]);
    let random = written(directory.path(), "random.mp4", &noise);
    let text =
        written(directory.path(), "text.mp4", b"this is no video, only a sentence that says so\n");
    assert_failed(&upload(&app, &no_moov).await, "corrupt");
    assert_failed(&upload(&app, &random).await, "unsupported_format");
    assert_failed(&upload(&app, &text).await, "unsupported_format");

    // A presigned URL binds the size, so an empty object comes another way.
    let empty = written(directory.path(), "empty.mp4", b"");
    clients::put_with_boto3(&app, &empty, "raw-uploads/empty.mp4").await;
    let id = clients::video_of_key(&app, "raw-uploads/empty.mp4").await;
    assert_failed(&end_of(&app, id).await, "empty_file");
}

/// Manifests that name a local file and a loopback listener: the listener hears nothing, the canary is read by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_named_mp4_open_no_file_and_contact_nobody() {
    let app = support::app().await;
    let directory = tempfile::tempdir().expect("a directory");
    let canary = canary(directory.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("http://127.0.0.1:{port}/segment.ts");
    let local = canary.display();

    let manifests = [
        (
            "hls-file.mp4",
            format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{local}\n#EXT-X-ENDLIST\n"
            ),
        ),
        (
            "hls-http.mp4",
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"),
        ),
        ("dash.mp4", dash(&url)),
        (
            "sdp.mp4",
            format!(
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
            ),
        ),
        ("concat.mp4", format!("ffconcat version 1.0\nfile '{local}'\n")),
        ("concat-http.mp4", format!("ffconcat version 1.0\nfile '{url}'\n")),
    ];
    for (name, manifest) in manifests {
        let file = written(directory.path(), name, manifest.as_bytes());
        assert_failed(&upload(&app, &file).await, "unsupported_format");
    }

    let heard = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(heard.is_err(), "somebody contacted the listener");
    assert_eq!(accessed(&canary), accessed_never(), "somebody read the canary");
}

/// A playable file with an access time in the past: a read would move it (relatime moves it when older than a day).
fn canary(directory: &Path) -> PathBuf {
    let made = clip(
        "canary.ts",
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=2 -c:v libx264 -f mpegts",
    );
    let canary = directory.join("canary.ts");
    std::fs::copy(made, &canary).expect("a copy");
    let file = std::fs::File::options().write(true).open(&canary).expect("the canary");
    file.set_times(std::fs::FileTimes::new().set_accessed(accessed_never()))
        .expect("times can be set");
    canary
}

fn accessed(file: &Path) -> std::time::SystemTime {
    std::fs::metadata(file).and_then(|metadata| metadata.accessed()).expect("an access time")
}

fn accessed_never() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn dash(url: &str) -> String {
    format!(
        r#"<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-main:2011">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000"><BaseURL>{url}</BaseURL>
<SegmentList duration="10"><SegmentURL media="{url}"/></SegmentList></Representation></AdaptationSet></Period></MPD>"#
    )
}

/// The canary test shows nothing unless reading the canary would be seen.
#[test]
fn reading_the_canary_would_be_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let canary = canary(directory.path());
    assert_eq!(accessed(&canary), accessed_never());
    std::fs::read(&canary).expect("the canary can be read");
    assert_ne!(
        accessed(&canary),
        accessed_never(),
        "this file system keeps no access times (noatime)"
    );
}

/// Nobody waits for a URL that was never used.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_never_used_ends_as_expired() {
    let app = app_with(|config| config.reconcile.period = Duration::from_millis(500)).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = written(directory.path(), "never.mp4", b"never sent");
    let id = clients::id_of(&clients::announce(&app, &file).await);
    sqlx::query("update videos set upload_expires_at = now() - interval '2 days', created_at = now() - interval '2 days' where id = $1")
        .bind(id)
        .execute(&app.pool)
        .await
        .expect("an update");
    let video = end_of(&app, id).await;
    assert_eq!(video["state"], "expired", "{video:#}");
}
