//! `/v1` over real HTTP: who may ask, what an announcement makes, and what is refused and how.

use pipeline::db::Db;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_server::{HttpServer, NOBODY, World, announcement, readiness, signing_only};
use crate::support;

/// Checks that an answer is a problem of this status and code, and returns it.
async fn problem(answer: Response, status: u16, code: &str) -> Value {
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["type"], format!("/problems/{code}"), "{problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

/// Every route of `/v1`, with one that does not exist.
fn routes(video: &str) -> Vec<(Method, String)> {
    vec![
        (Method::POST, "/v1/videos".into()),
        (Method::GET, "/v1/videos".into()),
        (Method::GET, format!("/v1/videos/{video}")),
        (Method::GET, format!("/v1/videos/{video}/similar")),
        (Method::DELETE, format!("/v1/videos/{video}")),
        (Method::GET, "/v1/nothing".into()),
        (Method::GET, "/v1".into()),
    ]
}

#[tokio::test]
async fn every_route_wants_a_key_that_is_known_and_not_revoked() {
    let world = World::new().await;
    let video = world.announced().await;
    let revoked = world.db.create_api_key("default", "lost").await.expect("a key");
    assert!(world.db.revoke_api_key(revoked.id).await.expect("revoked"));
    let unknown = format!("cs_{}", "0".repeat(64));
    let no_key_of_ours = "0".repeat(64);
    for (method, path) in routes(&video) {
        let bad = [None, Some(&revoked.key), Some(&unknown), Some(&no_key_of_ours)];
        for key in bad {
            let mut request = world.server.request(method.clone(), &path).json(&announcement());
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{method} {path}");
            assert_eq!(answer.headers()["cache-control"], "private, no-cache", "{method} {path}");
            problem(answer, 401, "unauthorized").await;
        }
        let basic = world.server.request(method.clone(), &path).basic_auth(&world.key, Some(""));
        problem(basic.send().await.expect("an answer"), 401, "unauthorized").await;
    }
}

#[tokio::test]
async fn the_videos_of_somebody_else_do_not_exist() {
    let world = World::new().await;
    let video = world.announced().await;
    for path in [format!("/v1/videos/{video}"), format!("/v1/videos/{video}/similar")] {
        let foreign = world.server.get(&path, &world.foreign_key).send().await.expect("an answer");
        let foreign = problem(foreign, 404, "not_found").await;
        let missing = path.replace(&video, &Uuid::now_v7().to_string());
        let missing = world.server.get(&missing, &world.key).send().await.expect("an answer");
        assert_eq!(foreign, problem(missing, 404, "not_found").await, "{path}");
        let own = world.server.get(&path, &world.key).send().await.expect("an answer");
        assert_eq!(own.status(), StatusCode::OK, "{path}");
    }
    let list = world.server.get("/v1/videos", &world.foreign_key).send().await.expect("an answer");
    let list: Value = list.json().await.expect("JSON");
    assert_eq!(list, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn an_announcement_makes_a_row_and_a_url_for_exactly_one_put() {
    let world = World::new().await;
    let body = json!({
        "filename": "ü +&#?%.MP4", "size": 5, "content_type": "video/mp4",
        "title": "Holiday", "stream_id": "summer",
    });
    let answer = world.announce(&body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["cache-control"], "private, no-cache");
    let location = answer.headers()["location"].to_str().expect("text").to_owned();
    let created: Value = answer.json().await.expect("JSON");
    let video = created["video_id"].as_str().expect("an id");
    assert_eq!(location, format!("/v1/videos/{video}"));
    let upload = &created["upload"];
    assert_eq!(upload["method"], "PUT");
    assert_eq!(upload["headers"]["content-type"], "video/mp4");
    assert_eq!(upload["headers"]["if-none-match"], "*");
    let url = upload["url"].as_str().expect("a URL");
    assert!(url.contains(&format!("/clipstream/raw-uploads/{video}.mp4?")), "{url}");

    let shown = world.show(video).await;
    assert_eq!(shown["upload_expires_at"], upload["expires_at"]);
    for (field, value) in [
        ("video_id", json!(video)),
        ("state", json!("uploading")),
        ("processing_index", json!(1)),
        ("title", json!("Holiday")),
        ("stream_id", json!("summer")),
        ("filename", json!("ü +&#?%.MP4")),
        ("size", json!(5)),
        ("content_type", json!("video/mp4")),
        ("stages", json!([])),
        ("playback", Value::Null),
        ("failure", Value::Null),
        ("duplicate_of", Value::Null),
        ("transcript_url", Value::Null),
        ("thumbnails", json!({ "poster": null, "processing": null, "duplicate": null })),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let bucket: String = sqlx::query_scalar("select bucket from videos")
        .fetch_one(&world.pool)
        .await
        .expect("one row");
    assert_eq!(bucket, "clipstream");
}

#[tokio::test]
async fn the_url_takes_the_announced_upload_once() {
    let minio = support::minio().await;
    let world = World::on(&minio.storage_config()).await;
    let created: Value = world.announce(&announcement()).await.json().await.expect("JSON");
    let put = async |body: &'static str| {
        let url = created["upload"]["url"].as_str().expect("a URL");
        let mut request = world.server.http.put(url).body(body);
        for (name, value) in created["upload"]["headers"].as_object().expect("headers") {
            if name != "content-length" {
                request = request.header(name, value.as_str().expect("text"));
            }
        }
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(put("123456").await, 403);
    assert_eq!(put("12345").await, 200);
    assert_eq!(put("12345").await, 412);
}

#[tokio::test]
async fn wrong_values_are_named_and_nothing_is_written() {
    let world = World::new().await;
    let with = |field: &str, value: Value| {
        let mut body = announcement();
        body[field] = value;
        body
    };
    let named = [
        ("/size", with("size", json!(0))),
        ("/size", with("size", json!(20_u64 * 1024 * 1024 * 1024 + 1))),
        ("/filename", with("filename", json!(""))),
        ("/filename", with("filename", json!("a\u{0}b"))),
        ("/filename", with("filename", json!("x".repeat(256)))),
        ("/content_type", with("content_type", json!("video"))),
        ("/content_type", with("content_type", json!("video/mp4\r\nx-amz-acl: public-read"))),
        ("/title", with("title", json!("x".repeat(201)))),
        ("/stream_id", with("stream_id", json!("x".repeat(129)))),
    ];
    for (pointer, body) in named {
        let problem = problem(world.announce(&body).await, 422, "validation_failed").await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let unfit = [
        with("size", json!(-1)),
        with("size", json!("5")),
        with("size", json!(1e30)),
        with("key", json!("raw-uploads/mine.mp4")),
        json!({ "filename": "clip.mp4" }),
        json!([]),
    ];
    for body in unfit {
        problem(world.announce(&body).await, 422, "validation_failed").await;
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from videos")
        .fetch_one(&world.pool)
        .await
        .expect("a count");
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let world = World::new().await;
    let post = |body: String, content_type: &str| {
        let request = world.server.request(Method::POST, "/v1/videos").bearer_auth(&world.key);
        request.header("content-type", content_type).body(body).send()
    };
    let get = |path: &str| world.server.get(path, &world.key).send();
    let json = "application/json";
    problem(post("{".into(), json).await.expect("answer"), 400, "invalid_request").await;
    problem(post(String::new(), json).await.expect("answer"), 400, "invalid_request").await;
    problem(post("a=b".into(), "text/plain").await.expect("answer"), 415, "unsupported_media_type")
        .await;
    let large = format!("{{\"filename\":\"{}\"}}", "x".repeat(70_000));
    problem(post(large, json).await.expect("answer"), 413, "payload_too_large").await;
    problem(get("/v1/nothing").await.expect("answer"), 404, "not_found").await;
    problem(get("/nothing").await.expect("answer"), 404, "not_found").await;
    problem(get("/v1/videos/not-an-id").await.expect("answer"), 404, "not_found").await;
    let bad_queries =
        ["limit=0", "limit=101", "limit=x", "state=gone", "cursor=x", "unknown=1", "limit=-1"];
    for query in bad_queries {
        let answer = get(&format!("/v1/videos?{query}")).await.expect("answer");
        problem(answer, 400, "invalid_request").await;
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/videos", "GET, POST"),
        (Method::POST, "/v1/videos/0190b8a0-0000-7000-8000-000000000000", "GET"),
        (Method::POST, "/livez", "GET, HEAD"),
    ] {
        let request = world.server.request(method, path).bearer_auth(&world.key);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["allow"], allow);
        let problem = problem(answer, 405, "method_not_allowed").await;
        let page = world.server.url(problem["type"].as_str().expect("a path"));
        let page = world.server.http.get(page).send().await.expect("an answer");
        assert_eq!(page.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn without_postgres_the_api_says_503_and_the_process_lives() {
    let db = Db::connect(NOBODY, 2).expect("a lazy pool");
    let server = HttpServer::start(&db, &signing_only());
    let key = format!("cs_{}", "0".repeat(64));
    let answer = server.get("/v1/videos", &key).send().await.expect("an answer");
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, 503, "unavailable").await;
    let live = server.request(Method::GET, "/livez").send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK);
}

#[tokio::test]
async fn each_half_is_served_only_where_it_is_asked_for() {
    let world = World::new().await;
    for (api, webhook) in [(true, false), (false, true)] {
        let server = HttpServer::with(clipstream::http::State {
            db: world.db.clone(),
            readiness: readiness(&world.db, &signing_only()),
            storage: pipeline::storage::Storage::new(&signing_only()).expect("settings"),
            webhook_token: "token".into(),
            max_size_bytes: 1 << 30,
            api,
            webhook,
        });
        let answer = server.get("/v1/videos", &world.key).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), if api { 200 } else { 404 });
        let path = "/webhooks/minio/upload-complete";
        let answer = server.request(Method::HEAD, path).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), if webhook { 200 } else { 404 });
        let live = server.request(Method::GET, "/livez").send().await.expect("an answer");
        assert_eq!(live.status(), StatusCode::OK);
    }
}
