//! `/readyz`: what takes a process out of service, and what only degrades it. On real services that are really away.

use pipeline::db::{Announcer, Db};
use pipeline::event::CreatedObject;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_server::{HttpServer, NOBODY, signing_only};
use crate::support::{TestApp, app, app_with};

async fn readyz(app: &TestApp) -> (StatusCode, Value) {
    let answer = reqwest::get(format!("{}/readyz", app.url)).await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn with_all_services_there_it_is_ready() {
    let app = app().await;
    let (status, said) = readyz(&app).await;
    assert_eq!((status, &said["status"]), (StatusCode::OK, &"ready".into()), "{said}");
    assert_eq!(said["degraded"], json!([]));
    for service in ["postgres", "redis", "minio"] {
        assert_eq!(said["checks"][service]["works"], true, "{said}");
    }
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_degrades_and_does_not_stop_it() {
    let redis = crate::support::redis().await;
    let client = redis::Client::open(redis.url.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
    let name = format!("reader-{}", Uuid::now_v7().simple());
    let (): () = redis::cmd("ACL")
        .arg(&["SETUSER", &name, "on", ">secret", "~*", "+@read", "+@connection"])
        .query_async(&mut connection)
        .await
        .expect("a user");
    let mut url: url::Url = redis.url.parse().expect("a URL");
    url.set_username(&name).expect("a name");
    url.set_password(Some("secret")).expect("a password");

    let app = app_with(|config| config.queue.url = url.to_string()).await;

    let (status, said) = readyz(&app).await;
    assert_eq!((status, &said["status"]), (StatusCode::OK, &"degraded".into()), "{said}");
    assert_eq!(said["degraded"], json!(["redis"]));
    assert!(!said.to_string().contains("NOPERM"), "what a service said is for the log: {said}");
}

#[tokio::test]
async fn without_postgres_it_is_not_ready_and_lives() {
    let db = Db::connect(NOBODY, 2).expect("a lazy pool");
    let server = HttpServer::start(&db, &signing_only());
    let answer = server.request(Method::GET, "/readyz").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said: Value = answer.json().await.expect("JSON");
    assert_eq!(said["status"], "unavailable");
    let live = server.request(Method::GET, "/livez").send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK);
}

#[tokio::test]
async fn while_it_drains_it_lives_is_not_ready_and_still_takes_events_in() {
    let app = app().await;
    // A MinIO that hangs holds a job for as long as the drain lasts.
    let minio = Pid::from_raw(app.minio.pid()).expect("its process");
    kill_process(minio, Signal::STOP).expect("it runs");
    let object = CreatedObject {
        bucket: "clipstream".to_owned(),
        key: "raw-uploads/hangs.mp4".to_owned(),
        etag: Some("e".to_owned()),
        version_id: None,
        size_bytes: 4,
        content_type: None,
        sequencer: None,
    };
    app.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
    let running = "select count(*) from jobs where state = 'running'";
    while sqlx::query_scalar::<_, i64>(running).fetch_one(&app.pool).await.expect("a count") == 0 {
        tokio::task::yield_now().await;
    }
    app.begin_stop();

    let (status, said) = readyz(&app).await;

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert_eq!(said["status"], "draining", "{said}");
    let live = reqwest::get(format!("{}/livez", app.url)).await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK, "it would be killed in the middle of its drain");
    let event = reqwest::Client::new()
        .post(format!("{}/webhooks/minio/upload-complete", app.url))
        .bearer_auth(&app.webhook_token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(event.status(), StatusCode::OK);
    kill_process(minio, Signal::CONT).expect("it runs");
}
