//! The client commands as a user runs them: the real binary, its exit codes, and what it prints where.
//! The daemon here has no workers: each test says itself how its video goes on.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::http_server::World;
use crate::support::{self, clipstream};

const HLS: &str = "/processed-videos/";

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(clipstream());
    command
        .args(arguments)
        .env_clear()
        .env("CLIPSTREAM_URL", format!("http://{}", world.server.address))
        .env("CLIPSTREAM_API_KEY", &world.key)
        .env("DATABASE_URL", &world.database_url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn clip(directory: &Path) -> String {
    let path = directory.join("ü +&#?%.mp4");
    std::fs::write(&path, vec![7; 700_000]).expect("a file");
    path.to_str().expect("text").to_owned()
}

async fn the_video(world: &World) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let id = sqlx::query_scalar("select id::text from videos").fetch_optional(&world.pool);
        if let Some(id) = id.await.expect("a query") {
            return id;
        }
        assert!(Instant::now() < deadline, "no video was announced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::query(statement).execute(&world.pool).await.expect("the statement works");
}

#[tokio::test]
async fn an_upload_arrives_whole_and_prints_its_id() {
    let minio = support::minio().await;
    let world = World::on(&minio.storage_config()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = clip(directory.path());
    let output =
        command(&world, &["upload", &file, "--title", "Holiday"]).output().await.expect("run");
    assert_eq!(code(&output), 0, "{output:?}");
    let video = the_video(&world).await;
    assert_eq!(text(&output.stdout).trim(), video);
    assert!(!text(&output.stderr).contains("X-Amz-"), "a presigned URL was shown");
    let storage = pipeline::storage::Storage::new(&minio.storage_config()).expect("settings");
    let object = storage.head(&format!("raw-uploads/{video}.mp4")).await.expect("the object");
    assert_eq!(object.size_bytes, 700_000);
    assert_eq!(object.content_type.as_deref(), Some("video/mp4"));
}

#[tokio::test]
async fn a_watched_upload_ends_with_the_hls_url_when_the_video_is_ready() {
    let minio = support::minio().await;
    let world = World::on(&minio.storage_config()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = clip(directory.path());
    let mut running = command(&world, &["upload", &file, "--watch"]).spawn().expect("started");
    let video = the_video(&world).await;
    sql(
        &world,
        "insert into jobs (id, video_id, owner_id, stage, state, attempt, worker, lease_until, started_at)
         select gen_random_uuid(), id, owner_id, 'transcode', 'running', 1, gen_random_uuid(), now(), now()
           from videos",
    )
    .await;
    sql(&world, "update videos set state = 'processing', playable_at = now()").await;
    let mut stderr = BufReader::new(running.stderr.take().expect("piped")).lines();
    let mut told = String::new();
    while !told.contains("playable") {
        told += &stderr.next_line().await.expect("text").expect("the watch goes on");
    }
    sql(&world, "update videos set state = 'ready', finished_stages = 15, processed_at = now()")
        .await;
    while let Some(line) = stderr.next_line().await.expect("text") {
        told += &line;
    }
    let output = running.wait_with_output().await.expect("ended");
    assert_eq!(code(&output), 0, "{told}");
    let stdout = text(&output.stdout);
    assert!(stdout.trim().ends_with(&format!("{HLS}{video}/master.m3u8")), "{stdout}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(told.contains("transcode"), "{told}");
    assert!(told.contains("ready after"), "{told}");
}

#[tokio::test]
async fn a_watched_upload_that_fails_is_exit_code_6_with_the_reason() {
    let minio = support::minio().await;
    let world = World::on(&minio.storage_config()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = clip(directory.path());
    let running =
        command(&world, &["upload", &file, "--watch", "--json"]).spawn().expect("started");
    the_video(&world).await;
    sql(
        &world,
        "update videos set state = 'failed', failure_cause = 'corrupt', failure_detail = 'no moov'",
    )
    .await;
    let output = running.wait_with_output().await.expect("ended");
    assert_eq!(code(&output), 6, "{output:?}");
    let video: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(video["failure"]["cause"], "corrupt");
    assert!(text(&output.stderr).contains("corrupt. no moov"), "{output:?}");
}

#[tokio::test]
async fn a_watch_that_takes_too_long_is_exit_code_124() {
    let minio = support::minio().await;
    let world = World::on(&minio.storage_config()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = clip(directory.path());
    let arguments = ["upload", &file, "--watch", "--timeout", "1"];
    let output = command(&world, &arguments).output().await.expect("run");
    assert_eq!(code(&output), 124, "{output:?}");
    assert!(text(&output.stderr).contains("it goes on"), "{output:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_said_with_its_own_exit_code() {
    let world = World::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = clip(directory.path());
    let missing = command(&world, &["upload", "/nowhere/clip.mp4"]).output().await.expect("run");
    assert_eq!(code(&missing), 3, "{missing:?}");
    assert!(text(&missing.stderr).contains("There is no file /nowhere/clip.mp4"));

    let mut away = command(&world, &["upload", &file]);
    let away = away.env("CLIPSTREAM_URL", "http://127.0.0.1:9").output().await.expect("run");
    assert_eq!(code(&away), 5, "{away:?}");
    assert!(text(&away.stderr).contains("CLIPSTREAM_URL"));

    // The API answers, MinIO does not.
    let output = command(&world, &["upload", &file]).output().await.expect("run");
    assert_eq!(code(&output), 5, "{output:?}");
    assert!(text(&output.stderr).contains("the clip has not arrived"));

    let mut refused = command(&world, &["upload", &file]);
    let refused = refused.env("CLIPSTREAM_API_KEY", "cs_wrong").output().await.expect("run");
    assert_eq!(code(&refused), 1, "{refused:?}");
    assert!(text(&refused.stderr).contains("clipstream token create"));

    let empty = directory.path().join("empty.mp4");
    std::fs::write(&empty, "").expect("a file");
    let empty = empty.to_str().expect("text");
    let empty = command(&world, &["upload", empty]).output().await.expect("run");
    assert_eq!(code(&empty), 1, "{empty:?}");
    assert!(text(&empty.stderr).contains("/size"), "{empty:?}");
}

#[tokio::test]
async fn a_token_works_from_its_creation_to_its_revocation() {
    let world = World::new().await;
    let arguments = ["token", "create", "--name", "laptop", "--owner", "newcomer"];
    let made = command(&world, &arguments).output().await.expect("run");
    assert_eq!(code(&made), 0, "{made:?}");
    let key = text(&made.stdout).trim().to_owned();
    assert!(text(&made.stderr).contains("made one"), "{made:?}");
    assert!(!text(&made.stderr).contains(&key), "the key is data and belongs on stdout alone");
    let status = async || {
        let answer = world.server.get("/v1/videos", &key).send().await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!(status().await, 200);

    let list = command(&world, &["token", "list", "--json"]).output().await.expect("run");
    let list: Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert!(!list.to_string().contains(&key));
    let items = list["items"].as_array().expect("items");
    let entry = items.iter().find(|item| item["name"] == "laptop").expect("the new key");
    assert_eq!(entry["owner"], "newcomer");
    let id = entry["id"].as_str().expect("an id");

    let revoked = command(&world, &["token", "revoke", id]).output().await.expect("run");
    assert_eq!(code(&revoked), 0, "{revoked:?}");
    assert_eq!(status().await, 401);
    let unknown = uuid::Uuid::now_v7().to_string();
    let unknown = command(&world, &["token", "revoke", &unknown]).output().await.expect("run");
    assert_eq!(code(&unknown), 3, "{unknown:?}");
    let mut away = command(&world, &["token", "list"]);
    let away = away.env("DATABASE_URL", crate::http_server::NOBODY).output().await.expect("run");
    assert_eq!(code(&away), 5, "{away:?}");
}

#[tokio::test]
async fn quarantined_events_are_listed_shown_and_replayed() {
    let world = World::new().await;
    let body = "{\"Records\": \u{1b}[2J";
    let id = world.db.quarantine(body.as_bytes(), "it is not JSON").await.expect("stored");
    let id = id.to_string();
    let run = async |arguments: &[&str]| {
        let mut all = vec!["events", "quarantined"];
        all.extend(arguments);
        let mut command = command(&world, &all);
        command.env("MINIO_ENDPOINT", "http://127.0.0.1:9");
        command.env("MINIO_ACCESS_KEY", "test").env("MINIO_SECRET_KEY", "test-secret");
        command.output().await.expect("run")
    };
    let list = run(&["list"]).await;
    assert_eq!(code(&list), 0, "{list:?}");
    assert!(text(&list.stdout).contains("it is not JSON"), "{list:?}");
    let shown = run(&["show", &id]).await;
    assert_eq!(text(&shown.stdout), "{\"Records\": \\u{1b}[2J\n");
    let shown = run(&["show", &id, "--json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["body"], body);
    assert_eq!(shown["reason"], "it is not JSON");
    let replayed = run(&["replay", &id]).await;
    assert_eq!(code(&replayed), 1, "{replayed:?}");
    assert_eq!(code(&run(&["show", "999999"]).await), 3);
    assert_eq!(code(&run(&["replay", "999999"]).await), 3);

    // After the body has been mended, it becomes what it should have been.
    sqlx::query(
        r#"update quarantined_events set body = convert_to('{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":
           {"bucket":{"name":"clipstream"},"object":{"key":"raw-uploads%2Fa.mp4","size":5,"eTag":"e"}}}]}', 'UTF8')"#,
    )
    .execute(&world.pool)
    .await
    .expect("mended");
    let replayed = run(&["replay", &id]).await;
    assert_eq!(code(&replayed), 0, "{replayed:?}");
    assert_eq!(the_video(&world).await.len(), 36);
}
