//! The webhook over real HTTP: who is heard, what is committed, and what MinIO is told.

use std::time::{Duration, Instant};

use pipeline::db::Db;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::form_urlencoded;

use crate::http_server::{HttpServer, NOBODY, WEBHOOK_TOKEN, World, signing_only};

const PATH: &str = "/webhooks/minio/upload-complete";

/// An event as MinIO sends it: the record's key is form-encoded, the one above it is not.
fn event(name: &str, key: &str) -> Value {
    let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
    json!({
        "EventName": name,
        "Key": format!("clipstream/{key}"),
        "Records": [{
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "eventTime": "2026-11-21T02:03:04.123Z",
            "eventName": name,
            "s3": {
                "bucket": { "name": "clipstream", "arn": "arn:aws:s3:::clipstream" },
                "object": {
                    "key": encoded, "size": 1234, "eTag": "900150983cd24fb0d6963f7d28e17f72",
                    "contentType": "video/mp4", "sequencer": "1879F0A1B2C3D4E5",
                },
            },
        }],
    })
}

fn put_event(key: &str) -> String {
    event("s3:ObjectCreated:Put", key).to_string()
}

async fn deliver(server: &HttpServer, body: impl Into<reqwest::Body>) -> Response {
    server
        .request(Method::POST, PATH)
        .bearer_auth(WEBHOOK_TOKEN)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .expect("an answer")
}

async fn count(world: &World, table: &'static str) -> i64 {
    let statement = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .fetch_one(&world.pool)
        .await
        .expect("a count")
}

#[tokio::test]
async fn a_huge_body_with_a_bad_token_is_refused_before_it_is_sent() {
    let world = World::new().await;
    for authorization in ["", "authorization: Bearer wrong\r\n"] {
        let mut connection = TcpStream::connect(world.server.address).await.expect("a connection");
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: clipstream\r\n{authorization}content-length: 10000000000\r\n\r\n"
        );
        let asked = Instant::now();
        connection.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 401");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    assert_eq!(count(&world, "videos").await, 0);
    assert_eq!(count(&world, "quarantined_events").await, 0);
}

#[tokio::test]
async fn without_the_right_token_all_refusals_look_the_same() {
    let world = World::new().await;
    let body = put_event("raw-uploads/a.mp4");
    let mut answers = Vec::new();
    for token in [None, Some("wrong"), Some("test-webhook-toke"), Some(world.key.as_str())] {
        let mut request = world.server.request(Method::POST, PATH).body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        answers.push(answer.text().await.expect("a body"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(count(&world, "videos").await, 0);
}

#[tokio::test]
async fn five_deliveries_of_one_event_make_one_video() {
    let world = World::new().await;
    let body = put_event("raw-uploads/ü +&#?%.mp4");
    let mut created = 0;
    for answer in
        futures_util::future::join_all((0..5).map(|_| deliver(&world.server, body.clone()))).await
    {
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        created += answer["created"].as_i64().expect("a number");
    }
    assert_eq!(created, 1);
    let keys: Vec<String> = sqlx::query_scalar("select object_key from videos")
        .fetch_all(&world.pool)
        .await
        .expect("rows");
    assert_eq!(keys, ["raw-uploads/ü +&#?%.mp4"]);
    assert_eq!(count(&world, "jobs").await, 1);
}

#[tokio::test]
async fn what_cannot_be_used_is_quarantined_and_answered_200() {
    let world = World::new().await;
    let foreign_bucket = put_event("raw-uploads/a.mp4")
        .replace(r#""name":"clipstream""#, r#""name":"somebody-elses""#);
    let unusable = [
        "{".to_owned(),
        "[1, 2]".to_owned(),
        "\u{0}\u{1}".to_owned(),
        json!({ "Records": [{ "eventName": "s3:ObjectCreated:Put" }] }).to_string(),
        foreign_bucket,
        put_event("raw-uploads/a.mp4").replace("%2Fa.mp4", "%2F%FF.mp4"),
    ];
    for (number, body) in (1..).zip(unusable) {
        for _ in 0..2 {
            let answer = deliver(&world.server, body.clone()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{body}");
            let answer: Value = answer.json().await.expect("JSON");
            assert_eq!(answer["result"], "quarantined", "{body}");
        }
        assert_eq!(count(&world, "quarantined_events").await, number, "{body}");
    }
    assert_eq!(count(&world, "videos").await, 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_kept_in_part_and_answered_200() {
    let world = World::new().await;
    let answer = deliver(&world.server, vec![b'x'; 3 * 1024 * 1024]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (size, reason): (i32, String) =
        sqlx::query_as("select octet_length(body), reason from quarantined_events")
            .fetch_one(&world.pool)
            .await
            .expect("one event");
    assert_eq!(size, 1024 * 1024);
    assert!(reason.contains("larger than 1048576 bytes"), "{reason}");
}

#[tokio::test]
async fn events_that_create_no_object_make_no_video() {
    let world = World::new().await;
    for name in ["s3:ObjectCreated:PutTagging", "s3:ObjectRemoved:Delete", "s3:ObjectAccessed:Get"]
    {
        let body = event(name, "raw-uploads/a.mp4").to_string();
        assert_eq!(deliver(&world.server, body).await.status(), StatusCode::OK, "{name}");
    }
    assert_eq!(count(&world, "videos").await, 0);
}

#[tokio::test]
async fn probes_of_minio_are_answered_200_and_nothing_ever_redirects() {
    let world = World::new().await;
    let slash = format!("{PATH}/");
    for path in [PATH, slash.as_str()] {
        let answer = world.server.request(Method::HEAD, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "HEAD {path}");
        let empty = world.server.request(Method::POST, path).bearer_auth(WEBHOOK_TOKEN);
        let answer = empty.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "POST {path}");
        assert!(answer.headers().contains_key("content-length"), "POST {path}");
        let answer = world.server.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "GET {path}");
    }
    let answer = world.server.request(Method::HEAD, "/").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let connection = TcpStream::connect(world.server.address).await.expect("a connection");
    drop(connection);
    assert_eq!(count(&world, "quarantined_events").await, 0);
}

#[tokio::test]
async fn without_postgres_minio_is_told_to_come_again() {
    let db = Db::connect(NOBODY, 2).expect("a lazy pool");
    let server = HttpServer::start(&db, &signing_only());
    let too_large = "x".repeat(1024 * 1024 + 1);
    for body in [put_event("raw-uploads/a.mp4"), "{".to_owned(), too_large] {
        let answer = deliver(&server, body).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["code"], "unavailable");
    }
    let live = server.request(Method::GET, "/livez").send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_sender_that_hangs_up_after_its_last_byte_does_not_lose_the_event() {
    let world = World::new().await;
    let body = put_event("raw-uploads/hung-up.mp4");
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: clipstream\r\nauthorization: Bearer {WEBHOOK_TOKEN}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(world.server.address).await.expect("a connection");
    connection.write_all(request.as_bytes()).await.expect("sent");
    drop(connection);
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(&world, "videos").await == 0 {
        assert!(Instant::now() < deadline, "the event was lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn more_deliveries_at_once_than_can_be_stored_are_told_to_come_again() {
    let world = World::new().await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: clipstream\r\nauthorization: Bearer {WEBHOOK_TOKEN}\r\n\
         content-length: 10\r\n\r\n"
    );
    let (mut unfinished, more) = (Vec::new(), std::sync::Mutex::new(Vec::new()));
    // More than the 64 places: a delivery below may be served before the last of these and take one.
    for _ in 0..96 {
        let mut connection = TcpStream::connect(world.server.address).await.expect("a connection");
        connection.write_all(head.as_bytes()).await.expect("sent");
        unfinished.push(connection);
    }
    let status = async |wanted: StatusCode| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = deliver(&world.server, "").await;
            let busy = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(answer.headers().contains_key("retry-after"), busy, "{answer:?}");
            if answer.status() == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "never {wanted}");
            // Those that are not finished in time are turned away: others take their places.
            if wanted == StatusCode::SERVICE_UNAVAILABLE {
                let mut connection =
                    TcpStream::connect(world.server.address).await.expect("a connection");
                connection.write_all(head.as_bytes()).await.expect("sent");
                more.lock().expect("no panic").push(connection);
            }
        }
    };
    status(StatusCode::SERVICE_UNAVAILABLE).await;
    unfinished.clear();
    more.lock().expect("no panic").clear();
    status(StatusCode::OK).await;
}
