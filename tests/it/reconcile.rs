//! The bucket against the rows, on a real MinIO: no upload is lost with its webhook.

use std::time::{Duration, Instant};

use pipeline::db::Announcer;
use pipeline::event::{CreatedObject, DOCTOR_PREFIX};
use pipeline::reconcile::{self, ReconcileConfig};
use pipeline::storage::Storage;
use pipeline::video::{OwnerId, VideoId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::picky_proxy::PickyProxy;
use crate::s3_client::S3Client;
use crate::support::{TestDatabase, TestMinio, database, minio};

struct World {
    database: TestDatabase,
    storage: Storage,
    client: S3Client,
    minio: TestMinio,
}

impl World {
    async fn new() -> Self {
        let minio = minio().await;
        let config = minio.storage_config();
        Self {
            database: database().await,
            storage: Storage::new(&config).expect("settings"),
            client: S3Client::new(&config),
            minio,
        }
    }

    /// Rounds with no pause to speak of, until something is so.
    async fn reconcile_until<F: Future<Output = bool>>(
        &self,
        grace: Duration,
        what: &str,
        so: impl Fn() -> F,
    ) {
        let stop = CancellationToken::new();
        let period = Duration::from_millis(50);
        let config = ReconcileConfig { period, grace, ..ReconcileConfig::default() };
        let (db, storage) = (self.database.db.clone(), self.storage.clone());
        let mut rounds = JoinSet::new();
        rounds.spawn(reconcile::run(config, db, storage, stop.clone()));
        let begun = Instant::now();
        while !so().await {
            assert!(begun.elapsed() < Duration::from_mins(1), "{what}: it never was so");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
        rounds.join_all().await;
    }

    /// A whole listing that began after this was called; how long it took.
    async fn another_round(&self) -> Duration {
        let forget = "update reconcile_cursor set start_after = '', updated_at = 'epoch'";
        sqlx::query(forget).execute(self.database.pool()).await.expect("from the first key on");
        let begun = Instant::now();
        let ended = "select count(*) from reconcile_cursor
                      where start_after = '' and updated_at > 'epoch'";
        let whole = || async { self.count(ended).await == 1 };
        self.reconcile_until(Duration::ZERO, "another round", whole).await;
        begun.elapsed()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.database.pool()).await.expect("a count")
    }

    async fn keys(&self) -> Vec<String> {
        sqlx::query_scalar("select object_key from videos order by object_key")
            .fetch_all(self.database.pool())
            .await
            .expect("keys")
    }

    /// A row as the API makes it. The URL ended `ago`.
    async fn announced(&self, key: &str, ago: &str) -> VideoId {
        let id = VideoId::new();
        sqlx::query(
            "insert into videos (id, owner_id, bucket, object_key, announced_by, state, upload_expires_at)
             values ($1, $2, $3, $4, 'api', 'uploading', now() - $5::interval)",
        )
        .bind(id.0)
        .bind(OwnerId::DEFAULT.0)
        .bind(&self.minio.bucket)
        .bind(key)
        .bind(ago)
        .execute(self.database.pool())
        .await
        .expect("a row");
        id
    }

    async fn state(&self, video: VideoId) -> String {
        sqlx::query_scalar("select state from videos where id = $1")
            .bind(video.0)
            .fetch_one(self.database.pool())
            .await
            .expect("a state")
    }
}

#[tokio::test]
async fn an_upload_without_webhook_becomes_a_video_once() {
    let world = World::new().await;
    world.client.put("raw-uploads/ü +&#?%.mp4", b"clip").await;
    for key in
        ["raw-uploads/", "raw-uploads/folder/", &format!("{DOCTOR_PREFIX}1"), "elsewhere/b.mp4"]
    {
        world.client.put(key, b"").await;
    }
    let found = || async { world.count("select count(*) from videos").await > 0 };
    world.reconcile_until(Duration::ZERO, "it is found", found).await;
    // Which must find nothing.
    world.another_round().await;
    assert_eq!(world.keys().await, ["raw-uploads/ü +&#?%.mp4"]);
    let (by, size, jobs): (String, i64, i64) =
        sqlx::query_as("select announced_by, size_bytes, (select count(*) from jobs) from videos")
            .fetch_one(world.database.pool())
            .await
            .expect("one video");
    assert_eq!((by.as_str(), size, jobs), ("reconcile", 4, 1));
}

#[tokio::test]
async fn webhook_and_listing_name_the_same_video() {
    let world = World::new().await;
    let key = "raw-uploads/a.mp4";
    world.client.put(key, b"clip").await;
    let head = world.storage.head(key).await.expect("it is there");
    let object = CreatedObject {
        bucket: world.minio.bucket.clone(),
        key: key.to_owned(),
        etag: Some(head.etag),
        version_id: None,
        size_bytes: 4,
        content_type: None,
        sequencer: None,
    };
    world.database.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
    world.client.put("raw-uploads/b.mp4", b"another").await;
    let found = || async { world.count("select count(*) from videos").await > 1 };
    world.reconcile_until(Duration::ZERO, "the other one is found", found).await;
    assert_eq!(world.keys().await, [key, "raw-uploads/b.mp4"]);
}

#[tokio::test]
async fn a_versioned_bucket_gives_one_video_per_version_and_not_two() {
    let world = World::new().await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    world.client.put_config("versioning", on).await;
    world.client.put("raw-uploads/a.mp4", b"one").await;
    let version = world.storage.head("raw-uploads/a.mp4").await.expect("there").version_id;
    let found = || async { world.count("select count(*) from videos").await > 0 };
    world.reconcile_until(Duration::ZERO, "it is found", found).await;
    let identity: String = sqlx::query_scalar("select identity from videos")
        .fetch_one(world.database.pool())
        .await
        .expect("one video");
    assert_eq!(identity, format!("version:{}", version.expect("a version")));
}

#[tokio::test]
async fn an_upload_that_cannot_be_stored_does_not_keep_the_others_from_being_found() {
    let world = World::new().await;
    sqlx::query("alter table videos add constraint picky check (size_bytes is distinct from 5)")
        .execute(world.database.pool())
        .await
        .expect("a constraint");
    let picky = world.announced("raw-uploads/a.mp4", "-5 minutes").await;
    world.client.put("raw-uploads/a.mp4", b"picky").await;
    world.client.put("raw-uploads/b.mp4", b"picky").await;
    world.client.put("raw-uploads/c.mp4", b"clip").await;
    let found = || async { world.keys().await.contains(&"raw-uploads/c.mp4".to_owned()) };
    world.reconcile_until(Duration::ZERO, "the last one is found", found).await;
    assert_eq!(world.state(picky).await, "uploading");
    assert_eq!(world.count("select count(*) from videos").await, 2);
}

#[tokio::test]
async fn objects_that_minio_does_not_answer_for_keep_nothing_behind_them_from_being_found() {
    for status in ["503 Service Unavailable", "403 Forbidden"] {
        let world = World::new().await;
        let proxy = PickyProxy::start(&world.minio.endpoint, "HEAD", "/silent-", status).await;
        let mut config = world.minio.storage_config();
        config.endpoint = proxy.endpoint();
        let storage = Storage::new(&config).expect("settings");
        let world = World { storage: storage.clone(), ..world };
        let announced = world.announced("raw-uploads/silent-a.mp4", "-5 minutes").await;
        let unused = world.announced("raw-uploads/unused.mp4", "16 minutes").await;
        let later = world.announced("raw-uploads/z.mp4", "-6 minutes").await;
        let silent = ["raw-uploads/silent-a.mp4", "raw-uploads/silent-b.mp4"];
        for key in silent.into_iter().chain(["raw-uploads/z.mp4", "raw-uploads/zz.mp4"]) {
            world.client.put(key, b"clip").await;
        }
        let done = || async {
            world.keys().await.contains(&"raw-uploads/zz.mp4".to_owned())
                && world.state(later).await == "processing"
                && world.state(unused).await == "expired"
        };
        world.reconcile_until(Duration::ZERO, "all behind them is seen to", done).await;
        assert_eq!(world.state(announced).await, "uploading", "{status}");

        let grace = Duration::ZERO;
        let config = ReconcileConfig { grace, ..ReconcileConfig::default() };
        let db = world.database.db.clone();
        let round = reconcile::once(config, false, db, storage).await.expect("a round");
        assert_eq!(round.passed_over.into_iter().collect::<Vec<_>>(), silent, "{status}");
        assert_eq!(round.found, []);
    }
}

#[tokio::test]
async fn where_no_object_can_be_asked_for_nothing_expires() {
    let world = World::new().await;
    let proxy = PickyProxy::start(&world.minio.endpoint, "HEAD", "/raw-uploads", "403 No").await;
    let mut config = world.minio.storage_config();
    config.endpoint = proxy.endpoint();
    let unused = world.announced("raw-uploads/unused.mp4", "16 minutes").await;
    for number in 0..60 {
        world.client.put(&format!("raw-uploads/{number}.mp4"), b"clip").await;
    }
    let storage = Storage::new(&config).expect("settings");
    let config = ReconcileConfig { grace: Duration::ZERO, ..ReconcileConfig::default() };
    let round = reconcile::once(config, false, world.database.db.clone(), storage).await;
    let error = round.expect_err("no round").to_string();
    assert!(error.contains("does not let us in"), "{error}");
    assert_eq!(world.state(unused).await, "uploading");
}

#[tokio::test]
async fn a_round_for_an_operator_goes_from_the_first_object_to_the_last() {
    let world = World::new().await;
    let keys: Vec<String> = (0..7).map(|number| format!("raw-uploads/{number}.mp4")).collect();
    for key in &keys {
        world.client.put(key, b"clip").await;
    }
    // Where the daemon is by now.
    let db = &world.database.db;
    let bucket = world.storage.bucket();
    db.set_reconcile_cursor(bucket, "raw-uploads/", &keys[4]).await.expect("far on");
    let config = ReconcileConfig {
        grace: Duration::ZERO,
        page: 2,
        pages_per_round: 2,
        ..Default::default()
    };
    for dry_run in [true, false] {
        let (db, storage) = (db.clone(), world.storage.clone());
        let round = reconcile::once(config.clone(), dry_run, db, storage).await.expect("a round");
        let found: Vec<&String> = round.found.iter().map(|found| &found.key).collect();
        assert_eq!(found, keys.iter().collect::<Vec<_>>(), "dry: {dry_run}");
    }
    assert_eq!(world.keys().await, keys);
    let cursor = db.reconcile_cursor(bucket, "raw-uploads/").await.expect("a cursor");
    assert_eq!(cursor, keys[4], "the daemon's listing is where it was");
}

#[tokio::test]
async fn a_young_object_is_left_to_its_webhook() {
    let world = World::new().await;
    let young = world.announced("raw-uploads/young.mp4", "-5 minutes").await;
    world.client.put("raw-uploads/young.mp4", b"clip").await;
    let unused = world.announced("raw-uploads/unused.mp4", "16 minutes").await;
    // The round that expires one has seen the other.
    let expired = || async { world.state(unused).await == "expired" };
    world.reconcile_until(Duration::from_hours(1), "a whole round", expired).await;
    assert_eq!(world.state(young).await, "uploading");
    assert_eq!(world.count("select count(*) from jobs").await, 0);
}

#[tokio::test]
async fn an_announced_upload_is_found_and_one_that_never_came_expires() {
    let world = World::new().await;
    let used = world.announced("raw-uploads/used.mp4", "20 minutes").await;
    world.client.put("raw-uploads/used.mp4", b"clip").await;
    let unused = world.announced("raw-uploads/unused.mp4", "16 minutes").await;
    let slow = world.announced("raw-uploads/slow.mp4", "14 minutes").await;
    let expired = || async { world.state(unused).await == "expired" };
    world.reconcile_until(Duration::ZERO, "the unused one expires", expired).await;
    assert_eq!(world.state(used).await, "processing", "found although its URL is long over");
    assert_eq!(world.state(slow).await, "uploading", "a PUT may end after its URL");

    world.client.put("raw-uploads/unused.mp4", b"late").await;
    let revived = || async { world.state(unused).await == "processing" };
    world.reconcile_until(Duration::ZERO, "the late one is found", revived).await;
    assert_eq!(world.count("select count(*) from videos").await, 3, "no second row");
}

/// How many objects the listing is measured with: more than a page, or what `CLIPSTREAM_TEST_OBJECTS` says.
fn many() -> i64 {
    let said = std::env::var_os("CLIPSTREAM_TEST_OBJECTS");
    said.map_or(1_010, |said| said.to_string_lossy().parse().expect("a number"))
}

/// One in ten is known to nobody, under a name that is not ours.
#[tokio::test]
async fn in_a_listing_of_many_pages_every_unannounced_object_is_found_within_two_minutes() {
    let uploads = many();
    let world = World::new().await;
    let key = |number: i64| match number % 10 {
        0 => format!("raw-uploads/holiday {number} ü.mov"),
        _ => format!("raw-uploads/{number:07}.mp4"),
    };
    let client = &world.client;
    let numbers: Vec<i64> = (0..uploads).collect();
    for batch in numbers.chunks(16) {
        let puts = batch.iter().map(|number| async move { client.put(&key(*number), b"x").await });
        futures_util::future::join_all(puts).await;
    }
    let etag = world.storage.head(&key(1)).await.expect("it is there").etag;
    sqlx::query(
        "insert into videos (id, owner_id, bucket, object_key, identity, etag, announced_by, state)
         select gen_random_uuid(), $1, $2, 'raw-uploads/' || lpad(n::text, 7, '0') || '.mp4',
                'etag:' || $3, $3, 'webhook', 'processing'
           from generate_series(0, $4 - 1) n where n % 10 <> 0",
    )
    .bind(OwnerId::DEFAULT.0)
    .bind(&world.minio.bucket)
    .bind(etag)
    .bind(uploads)
    .execute(world.database.pool())
    .await
    .expect("rows");

    let begun = Instant::now();
    let all = || async { world.count("select count(*) from videos").await == uploads };
    world.reconcile_until(Duration::ZERO, "all are found", all).await;
    let found = begun.elapsed();
    assert!(found < Duration::from_mins(2), "{found:?}");
    let by_us = "select count(*) from videos where announced_by = 'reconcile'";
    assert_eq!(world.count(by_us).await, (uploads + 9) / 10);

    let idle = world.another_round().await;
    // For who asks for the figures: `--nocapture`.
    eprintln!("{uploads} objects: a tenth found in {found:?}, a round without finds in {idle:?}");
    assert_eq!(world.count("select count(*) from videos").await, uploads, "none is found twice");
}

#[tokio::test]
async fn without_minio_nothing_expires() {
    let world = World::new().await;
    let mut config = world.minio.storage_config();
    config.endpoint = "http://127.0.0.1:9".parse().expect("a URL");
    let unused = world.announced("raw-uploads/unused.mp4", "16 minutes").await;
    let away = Storage::new(&config).expect("settings");
    let world = World { storage: away, ..world };
    let begun = Instant::now();
    // Some rounds: each fails at once, nobody listens on that port.
    let some_time = || async { begun.elapsed() > Duration::from_secs(1) };
    world.reconcile_until(Duration::ZERO, "some rounds", some_time).await;
    assert_eq!(world.state(unused).await, "uploading");
}
