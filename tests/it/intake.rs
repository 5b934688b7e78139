//! Deliveries against a real Postgres: what is committed when `deliver` says so, and what is kept for an operator.

use pipeline::db::{Db, DbError};
use pipeline::intake::{Delivery, deliver, replay};
use serde_json::json;

use crate::support::{TestDatabase, database};

const BUCKET: &str = "clipstream";

fn record(bucket: &str, key: &str, etag: &str) -> serde_json::Value {
    json!({
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": etag, "size": 7}}
    })
}

fn body(records: &[serde_json::Value]) -> Vec<u8> {
    json!({"EventName": "s3:ObjectCreated:Put", "Records": records}).to_string().into_bytes()
}

async fn count(database: &TestDatabase, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(database.pool()).await.expect("a count")
}

async fn videos(database: &TestDatabase) -> i64 {
    count(database, "select count(*) from videos").await
}

#[tokio::test]
async fn five_deliveries_of_one_upload_make_one_video_and_one_job() {
    let database = database().await;
    let body = body(&[record(BUCKET, "raw-uploads%2F%C3%BC+1.mp4", "e1")]);
    let accepted = |created, known| Delivery::Accepted { created, known };
    assert_eq!(deliver(&database.db, BUCKET, &body).await.expect("kept"), accepted(1, 0));
    for _ in 0..4 {
        assert_eq!(deliver(&database.db, BUCKET, &body).await.expect("kept"), accepted(0, 1));
    }
    let (key, state): (String, String) = sqlx::query_as("select object_key, state from videos")
        .fetch_one(database.pool())
        .await
        .expect("one video");
    assert_eq!((key.as_str(), state.as_str()), ("raw-uploads/ü 1.mp4", "processing"));
    assert_eq!(count(&database, "select count(*) from jobs").await, 1);
}

#[tokio::test]
async fn deliveries_that_race_make_one_video() {
    let database = database().await;
    let body = body(&[record(BUCKET, "raw-uploads%2Fa.mp4", "e1")]);
    let one = || deliver(&database.db, BUCKET, &body);
    let answers = tokio::join!(one(), one(), one(), one(), one(), one());
    let answers: [_; 6] = answers.into();
    let created = answers
        .into_iter()
        .filter(|answer| matches!(answer, Ok(Delivery::Accepted { created: 1, .. })))
        .count();
    assert_eq!((created, videos(&database).await), (1, 1));
}

#[tokio::test]
async fn an_unusable_body_is_kept_once_however_often_it_comes() {
    let database = database().await;
    let body = body(&[record("holiday", "raw-uploads%2Fa.mp4", "e1")]);
    for _ in 0..3 {
        let delivery = deliver(&database.db, BUCKET, &body).await.expect("kept");
        assert!(matches!(delivery, Delivery::Quarantined { reason } if reason.contains("holiday")));
    }
    let events = database.db.quarantined(10).await.expect("a list");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].times_seen, &events[0].body), (3, &body));
    assert!(events[0].reason.contains("holiday"));
    assert_eq!(videos(&database).await, 0);
}

#[tokio::test]
async fn what_is_usable_beside_something_unusable_is_committed() {
    let database = database().await;
    let body = body(&[
        record(BUCKET, "raw-uploads%2F..%2Fb.mp4", "e1"),
        record(BUCKET, "raw-uploads%2Fa.mp4", "e1"),
    ]);
    let delivery = deliver(&database.db, BUCKET, &body).await.expect("kept");
    assert!(matches!(delivery, Delivery::Quarantined { .. }));
    assert_eq!(videos(&database).await, 1);
    assert_eq!(database.db.quarantined(10).await.expect("a list").len(), 1);
}

#[tokio::test]
async fn an_upload_with_a_forged_etag_stops_nothing_behind_it() {
    let database = database().await;
    // Random, so that Postgres cannot make it fit by compressing it.
    let etag: String = (0..200).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let body = body(&[
        record(BUCKET, "raw-uploads%2Fforged.mp4", &etag),
        record(BUCKET, "raw-uploads%2Fa.mp4", "e1"),
    ]);
    let delivery = deliver(&database.db, BUCKET, &body).await.expect("kept");
    assert!(matches!(delivery, Delivery::Quarantined { reason } if reason.contains("ETag")));
    assert_eq!(videos(&database).await, 1);
}

#[tokio::test]
async fn what_postgres_refuses_is_kept_for_an_operator() {
    let database = database().await;
    sqlx::query("alter table videos add constraint picky check (object_key not like '%picky%')")
        .execute(database.pool())
        .await
        .expect("a constraint");
    let body = body(&[
        record(BUCKET, "raw-uploads%2Fpicky.mp4", "e1"),
        record(BUCKET, "raw-uploads%2Fa.mp4", "e1"),
    ]);
    let delivery = deliver(&database.db, BUCKET, &body).await.expect("kept");
    assert!(matches!(delivery, Delivery::Quarantined { reason } if reason.contains("picky")));
    assert_eq!(videos(&database).await, 1);
}

#[tokio::test]
async fn pings_and_tagging_leave_nothing_behind() {
    let database = database().await;
    let tagging = br#"{"Records":[{"eventName":"s3:ObjectCreated:PutTagging"}]}"#;
    for body in [&b""[..], b"\n", tagging] {
        let delivery = deliver(&database.db, BUCKET, body).await.expect("nothing to do");
        assert_eq!(delivery, Delivery::Nothing);
    }
    assert_eq!(videos(&database).await, 0);
    assert!(database.db.quarantined(10).await.expect("a list").is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_text_is_kept_byte_for_byte() {
    let database = database().await;
    let body = [0, 159, 146, 150, b'{'];
    deliver(&database.db, BUCKET, &body).await.expect("kept");
    let events = database.db.quarantined(10).await.expect("a list");
    assert_eq!(events[0].body, body);
}

#[tokio::test]
async fn a_replay_counts_only_when_everything_could_be_used() {
    let database = database().await;
    let db = &database.db;
    deliver(db, BUCKET, &body(&[record("films", "raw-uploads%2Fa.mp4", "e1")]))
        .await
        .expect("kept");
    let id = db.quarantined(1).await.expect("a list")[0].id;

    let again = replay(db, BUCKET, id).await.expect("an answer").expect("the event");
    assert!(matches!(again, Delivery::Quarantined { .. }));
    let event = db.quarantined_event(id).await.expect("an answer").expect("the event");
    assert_eq!((event.replayed_at, event.times_seen), (None, 1), "a replay is no arrival");

    let mended = replay(db, "films", id).await.expect("an answer").expect("the event");
    assert_eq!(mended, Delivery::Accepted { created: 1, known: 0 });
    let event = db.quarantined_event(id).await.expect("an answer").expect("the event");
    assert!(event.replayed_at.is_some());
    assert_eq!(replay(db, BUCKET, id + 1).await.expect("an answer"), None);
}

#[tokio::test]
async fn without_postgres_nothing_is_accepted_not_even_into_quarantine() {
    let nobody = Db::connect("postgres://clipstream@127.0.0.1:9/none", 1).expect("a URL");
    for body in [body(&[record(BUCKET, "raw-uploads%2Fa.mp4", "e1")]), b"{".to_vec()] {
        let answer = deliver(&nobody, BUCKET, &body).await;
        assert!(matches!(answer, Err(DbError::Unavailable(_))), "{answer:?}");
    }
    assert_eq!(deliver(&nobody, BUCKET, b"").await.expect("nothing to store"), Delivery::Nothing);
}
