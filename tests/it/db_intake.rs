//! One object, one video: whoever tells of it, however often, in whatever order.

use std::time::Duration;

use pipeline::db::{Announcer, DbError};
use pipeline::stage::Stage;
use pipeline::video::{OwnerId, VideoId};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::db_actors::{
    PATIENCE, arrived, claimed, complete, everything, job_of, object, row, state, until_blocked,
};
use crate::support::database;

/// The row that `POST /v1/videos` makes.
async fn announce(pool: &PgPool, owner: OwnerId, expires_in: &str) -> (VideoId, String) {
    let video = VideoId::new();
    let key = format!("raw-uploads/{video}.mp4");
    sqlx::query(
        "insert into videos (id, owner_id, stream_id, title, filename, bucket, object_key, size_bytes, announced_by, state, upload_expires_at)
         values ($1, $2, 'stream', 'title', 'my clip.mp4', 'clipstream', $3, 5, 'api', 'uploading', now() + $4::interval)",
    )
    .bind(video.0)
    .bind(owner.0)
    .bind(&key)
    .bind(expires_in)
    .execute(pool)
    .await
    .expect("announced");
    (video, key)
}

async fn owner(pool: &PgPool, name: &str) -> OwnerId {
    let owner = OwnerId::new();
    sqlx::query("insert into owners (id, name) values ($1, $2)")
        .bind(owner.0)
        .bind(name)
        .execute(pool)
        .await
        .expect("an owner");
    owner
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(query).fetch_one(pool).await.expect("a count")
}

#[tokio::test]
async fn an_object_nobody_announced_becomes_a_video_of_the_default_owner() {
    let test = database().await;
    let object = object("raw-uploads/Ferien am Meer.mp4", "abc");
    let bell = test.db.jobs_due();

    let accepted = test.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");

    assert!(accepted.created);
    let row = row(test.pool(), accepted.video).await;
    assert_eq!(row["state"], "processing");
    assert_eq!(row["owner_id"], OwnerId::DEFAULT.to_string());
    assert_eq!(row["identity"], "etag:abc");
    assert_eq!(row["filename"], "Ferien am Meer.mp4");
    assert_eq!(row["announced_by"], "webhook");
    assert_eq!(row["processing_index"], 1);
    job_of(test.pool(), accepted.video, Stage::DuplicateDetection).await;
    timeout(PATIENCE, bell.notified()).await.expect("dispatch is told at once");
}

#[tokio::test]
async fn a_duplicate_event_makes_no_second_video() {
    let test = database().await;
    let object = object("raw-uploads/a.mp4", "abc");
    let first = test.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");

    for by in [Announcer::Webhook, Announcer::Reconcile, Announcer::Webhook] {
        let again = test.db.accept_object(&object, by).await.expect("accepted");
        assert_eq!((again.video, again.created), (first.video, false));
    }

    assert_eq!(count(test.pool(), "videos").await, 1);
    assert_eq!(count(test.pool(), "jobs").await, 1);
}

#[tokio::test]
async fn an_event_for_a_video_that_has_ended_changes_nothing() {
    let test = database().await;
    let accepted = test
        .db
        .accept_object(&object("raw-uploads/a.mp4", "abc"), Announcer::Webhook)
        .await
        .expect("accepted");
    let lease = claimed(&test.db, test.pool(), accepted.video, Stage::DuplicateDetection).await;
    complete(&test.db, &lease).await;
    let before = everything(test.pool()).await;

    let again = test
        .db
        .accept_object(&object("raw-uploads/a.mp4", "abc"), Announcer::Webhook)
        .await
        .expect("accepted");

    assert!(!again.created);
    assert_eq!(everything(test.pool()).await, before);
}

#[tokio::test]
async fn an_announced_upload_keeps_its_row() {
    let test = database().await;
    let owner = owner(test.pool(), "someone").await;
    let (video, key) = announce(test.pool(), owner, "5 minutes").await;

    let accepted =
        test.db.accept_object(&object(&key, "abc"), Announcer::Webhook).await.expect("accepted");

    assert_eq!((accepted.video, accepted.created), (video, true));
    let row = row(test.pool(), video).await;
    assert_eq!(row["owner_id"], owner.to_string());
    assert_eq!(row["state"], "processing");
    assert_eq!(row["title"], "title");
    assert_eq!(row["size_bytes"], 1_000, "the object's size, not the announced one");
    assert_eq!(row["announced_by"], "api");
}

#[tokio::test]
async fn an_upload_that_expired_is_revived_by_its_object() {
    let test = database().await;
    let (late, key) = announce(test.pool(), OwnerId::DEFAULT, "-1 hour").await;
    let (in_time, _) = announce(test.pool(), OwnerId::DEFAULT, "-1 minute").await;
    let quarter = Duration::from_mins(15);

    let waiting = test.db.uploading_videos(10).await.expect("a list");
    assert_eq!(waiting.iter().map(|(video, _)| *video).collect::<Vec<_>>(), [late, in_time]);
    assert_eq!(test.db.expire_uploads(quarter).await.expect("expired"), 1);
    assert_eq!(state(test.pool(), late).await, "expired");
    assert_eq!(state(test.pool(), in_time).await, "uploading");

    let accepted =
        test.db.accept_object(&object(&key, "abc"), Announcer::Reconcile).await.expect("accepted");
    assert_eq!((accepted.video, accepted.created), (late, true));
    assert_eq!(state(test.pool(), late).await, "processing");
}

#[tokio::test]
async fn an_overwritten_source_is_a_new_video_of_the_same_owner() {
    let test = database().await;
    let owner = owner(test.pool(), "someone").await;
    let (video, key) = announce(test.pool(), owner, "5 minutes").await;
    test.db.accept_object(&object(&key, "abc"), Announcer::Webhook).await.expect("accepted");

    let second =
        test.db.accept_object(&object(&key, "def"), Announcer::Webhook).await.expect("accepted");

    assert!(second.created);
    assert_ne!(second.video, video);
    let row = row(test.pool(), second.video).await;
    assert_eq!(row["owner_id"], owner.to_string());
    assert_eq!(row["filename"], "my clip.mp4");
    assert_eq!(state(test.pool(), video).await, "processing", "the first one's stages will see");
}

#[tokio::test]
async fn two_versions_of_one_key_are_two_videos_and_a_listing_without_versions_adds_none() {
    let test = database().await;
    let listed = object("raw-uploads/a.mp4", "abc");
    let mut videos = Vec::new();
    for version in ["v1", "v2"] {
        let mut object = listed.clone();
        object.version_id = Some(version.to_owned());
        videos.push(test.db.accept_object(&object, Announcer::Webhook).await.expect("accepted"));
    }
    assert_ne!(videos[0].video, videos[1].video);

    assert_eq!(test.db.unknown_objects(std::slice::from_ref(&listed)).await.expect("a list"), []);
    let accepted = test.db.accept_object(&listed, Announcer::Reconcile).await.expect("accepted");
    assert!(!accepted.created);
}

#[tokio::test]
async fn an_object_without_version_and_etag_is_refused() {
    let test = database().await;
    let mut nameless = object("raw-uploads/a.mp4", "abc");
    nameless.etag = None;
    let refused = test.db.accept_object(&nameless, Announcer::Webhook).await;
    assert!(matches!(refused, Err(DbError::Constraint(_))), "{refused:?}");
}

#[tokio::test]
async fn only_objects_without_a_video_are_unknown() {
    let test = database().await;
    let (_, announced) = announce(test.pool(), OwnerId::DEFAULT, "5 minutes").await;
    let known = object("raw-uploads/known.mp4", "abc");
    test.db.accept_object(&known, Announcer::Webhook).await.expect("accepted");
    let overwritten = object("raw-uploads/known.mp4", "def");
    let new = object("raw-uploads/ü +&#?%.mp4", "abc");
    let uploaded = object(&announced, "abc");

    let listing = [new.clone(), known, overwritten.clone(), uploaded.clone()];
    let unknown = test.db.unknown_objects(&listing).await.expect("a list");

    assert_eq!(unknown, [new, overwritten, uploaded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_and_reconciler_at_once_make_one_video_200_times() {
    let test = database().await;
    for round in 0..200 {
        // Every other object was announced, so both paths through the statement race.
        let key = if round % 2 == 0 {
            announce(test.pool(), OwnerId::DEFAULT, "5 minutes").await.1
        } else {
            format!("raw-uploads/{round}.mp4")
        };
        let object = object(&key, "abc");
        let (webhook, reconcile) = tokio::join!(
            test.db.accept_object(&object, Announcer::Webhook),
            test.db.accept_object(&object, Announcer::Reconcile),
        );
        let (webhook, reconcile) = (webhook.expect("accepted"), reconcile.expect("accepted"));
        assert_eq!(webhook.video, reconcile.video, "round {round}");
        assert!(webhook.created != reconcile.created, "round {round}: exactly one began it");
    }
    assert_eq!(count(test.pool(), "videos").await, 200);
    assert_eq!(count(test.pool(), "jobs").await, 200);
}

/// Both statements stand at the lock of the row with their snapshots taken: the worst interleaving there is.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_both_saw_the_announced_row_make_one_video() {
    let test = database().await;
    let (video, key) = announce(test.pool(), OwnerId::DEFAULT, "5 minutes").await;
    let object = object(&key, "abc");
    let mut lock = test.pool().acquire().await.expect("a connection");
    sqlx::query("begin").execute(&mut *lock).await.expect("begun");
    sqlx::query("select 1 from videos where id = $1 for update")
        .bind(video.0)
        .execute(&mut *lock)
        .await
        .expect("locked");

    let (webhook, reconcile, ()) = tokio::join!(
        test.db.accept_object(&object, Announcer::Webhook),
        test.db.accept_object(&object, Announcer::Reconcile),
        async {
            until_blocked(test.pool(), 2).await;
            sqlx::query("commit").execute(&mut *lock).await.expect("released");
        }
    );

    let (webhook, reconcile) = (webhook.expect("accepted"), reconcile.expect("accepted"));
    assert_eq!((webhook.video, reconcile.video), (video, video));
    assert!(webhook.created != reconcile.created);
    assert_eq!(count(test.pool(), "jobs").await, 1);
}

#[tokio::test]
async fn the_reconciler_goes_on_where_it_stopped() {
    let test = database().await;
    let cursor = || test.db.reconcile_cursor("clipstream", "raw-uploads/");
    assert_eq!(cursor().await.expect("a cursor"), "");
    for key in ["raw-uploads/k", "raw-uploads/z"] {
        test.db.set_reconcile_cursor("clipstream", "raw-uploads/", key).await.expect("set");
        assert_eq!(cursor().await.expect("a cursor"), key);
    }
    assert_eq!(test.db.reconcile_cursor("other", "raw-uploads/").await.expect("a cursor"), "");
}

#[tokio::test]
async fn every_arrival_is_a_video_of_its_own() {
    let test = database().await;
    let (one, other) = (arrived(&test.db).await, arrived(&test.db).await);
    assert_ne!(one, other);
}
