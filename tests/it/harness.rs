//! The harness itself: that tests do not meet each other, and that nothing stays.

use std::path::Path;

use crate::support;

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let (one, two) = tokio::join!(support::database(), support::database());
    sqlx::query("insert into owners (id, name) values (gen_random_uuid(), 'somebody')")
        .execute(one.pool())
        .await
        .expect("inserted");
    for (database, expected) in [(&one, 2), (&two, 1)] {
        let owners: i64 = sqlx::query_scalar("select count(*) from owners")
            .fetch_one(database.pool())
            .await
            .expect("counted");
        assert_eq!(owners, expected, "in {}", database.url);
    }
}

#[tokio::test]
async fn each_test_has_redis_keys_of_its_own() {
    let (one, two) = tokio::join!(support::redis(), support::redis());
    assert_ne!(one.prefix, two.prefix);
    let client = redis::Client::open(one.url.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
    let answer: String = redis::cmd("PING").query_async(&mut connection).await.expect("it answers");
    assert_eq!(answer, "PONG");
    assert_eq!(one.queue_config().prefix, one.prefix);
}

#[tokio::test]
async fn a_minio_ends_with_its_test() {
    let minio = support::minio().await;
    let process = format!("/proc/{}", minio.pid());
    assert!(Path::new(&process).exists());
    assert_eq!(minio.storage_config().bucket, "clipstream");
    let bucket = minio.endpoint.join("clipstream/nothing").expect("a URL");
    let answer = reqwest::get(bucket).await.expect("it answers");
    assert_eq!(answer.status(), 403, "the bucket is there and closed");
    drop(minio);
    assert!(!Path::new(&process).exists());
}

#[tokio::test]
async fn a_daemon_of_a_test_hears_of_uploads_to_its_own_minio() {
    let mut app = support::app().await;
    let client = reqwest::Client::new();
    let announced = client
        .post(format!("{}/v1/videos", app.url))
        .bearer_auth(&app.api_key)
        .json(&serde_json::json!({
            "filename": "a.mp4", "size": 4, "content_type": "video/mp4"
        }))
        .send()
        .await
        .expect("it answers");
    let answer: serde_json::Value = announced.json().await.expect("JSON");
    let upload = &answer["upload"];
    let mut put = client.put(upload["url"].as_str().expect("a URL")).body("abcd");
    for (name, value) in upload["headers"].as_object().expect("headers") {
        put = put.header(name, value.as_str().expect("text"));
    }
    assert_eq!(put.send().await.expect("MinIO answers").status(), 200);
    let (id, pool) = (answer["video_id"].as_str().expect("an id"), app.pool.clone());
    let seen = async || -> bool {
        sqlx::query_scalar("select uploaded_at is not null from videos where id = $1::uuid")
            .bind(id)
            .fetch_one(&pool)
            .await
            .expect("the row is there")
    };
    let patience = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while !seen().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    patience.await.expect("the event comes");
    app.stop();
    assert!(client.get(format!("{}/livez", app.url)).send().await.is_err(), "it has ended");
}

#[tokio::test]
async fn the_configuration_of_a_test_can_be_changed() {
    let app = support::app_with(|config| config.roles.api = false).await;
    let answer = reqwest::get(format!("{}/v1/videos", app.url)).await.expect("it answers");
    assert_eq!(answer.status(), 404);
    assert!(app.redis.prefix.starts_with("test:") && app.minio.pid() > 0);
    assert!(app.database.url.contains("test_") && app.storage.bucket() == app.minio.bucket);
    app.db.ping().await.expect("its database answers");
    assert!(app.webhook_token.len() >= 16);
}
