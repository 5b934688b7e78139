//! The uploaders and MinIO's webhooks: objects in the bucket, and calls that tell of them once, several times or never.
//! A call is repeated until it is answered 200, as MinIO's durable target does; what was answered 200 must be a row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pipeline::db::{Announcer, Db};
use pipeline::event::CreatedObject;
use pipeline::storage::{Precondition, Storage, StorageKey};
use pipeline::video::VideoId;
use reqwest::Client;
use serde_json::json;
use sqlx::PgPool;

use crate::fleet::WEBHOOK_TOKEN;
use crate::plan::Fault;
use crate::s3_client::S3Client;
use crate::services::BUCKET;

const PATIENCE: Duration = Duration::from_mins(2);
/// What MinIO waits 3 s for.
const REPEAT: Duration = Duration::from_millis(300);

pub(crate) struct Feeder {
    db: Db,
    pool: PgPool,
    storage: Storage,
    /// Puts objects under keys that ours does not write.
    stranger: S3Client,
    client: Client,
    ports: Vec<u16>,
    seed: u64,
    /// Number of the next upload, and the size of its object.
    next: AtomicU64,
    /// Webhooks that the reconciler ran into.
    races: AtomicU64,
    /// Calls answered 200 without a row.
    unkept: AtomicU64,
}

impl Feeder {
    pub(crate) fn new(
        db: Db,
        pool: PgPool,
        storage: Storage,
        stranger: S3Client,
        ports: Vec<u16>,
        seed: u64,
    ) -> Self {
        let client = Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        let [races, unkept] = [0, 0].map(AtomicU64::new);
        Self {
            db,
            pool,
            storage,
            stranger,
            client,
            ports,
            seed,
            next: AtomicU64::new(1),
            races,
            unkept,
        }
    }

    pub(crate) fn made(&self) -> u64 {
        self.next.load(Ordering::SeqCst) - 1
    }

    pub(crate) fn races(&self) -> u64 {
        self.races.load(Ordering::SeqCst)
    }

    pub(crate) fn unkept(&self) -> u64 {
        self.unkept.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_they_listen(&self) {
        for port in &self.ports {
            let up = async {
                while self.client.head(url(*port)).send().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, up).await.expect("the daemons listen");
        }
    }

    /// So many uploads at once, of a phase; each is announced one to three times, or never. Two in three of the announced
    /// meet the reconciler at the same moment.
    pub(crate) async fn upload(&self, fault: Fault, count: usize, extension: &'static str) {
        join_all((0..count).map(|_| self.upload_one(fault, extension))).await;
    }

    async fn upload_one(&self, fault: Fault, extension: &'static str) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let body = vec![b'.'; usize::try_from(number).expect("a size")];
        self.hand_in(fault, number, extension, body).await;
    }

    /// A file of the caller's. Returns its key.
    pub(crate) async fn upload_file(
        &self,
        fault: Fault,
        extension: &'static str,
        body: Vec<u8>,
    ) -> String {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.hand_in(fault, number, extension, body).await
    }

    async fn hand_in(
        &self,
        fault: Fault,
        number: u64,
        extension: &'static str,
        body: Vec<u8>,
    ) -> String {
        let mut dice = fastrand::Rng::with_seed(self.seed ^ number.rotate_left(32));
        if fault == Fault::Unheard {
            let key = unheard_key(number);
            self.expect(&key, fault, false).await;
            self.stranger.put(&key, &body).await;
            return key;
        }
        let key = StorageKey::Source { video: VideoId::new(), extension };
        let size_bytes = body.len() as u64;
        self.expect(&key.to_string(), fault, true).await;
        let etag = self.put(&key, body).await;
        let key = key.to_string();
        let event = event(&key, &etag, size_bytes);
        let deliveries = (0..dice.usize(1..=3)).map(|_| self.deliver(&event, dice.usize(..)));
        let deliveries: Vec<_> = deliveries.collect();
        let races = dice.u8(..3) > 0;
        let reconciled = self.reconcile(&key, &etag, size_bytes, races);
        tokio::join!(join_all(deliveries), reconciled);
        self.check(&key).await;
        key
    }

    /// Written down before it is there: the verdict goes by this.
    async fn expect(&self, key: &str, fault: Fault, announced: bool) {
        let insert = || {
            sqlx::query("insert into chaos.uploads (key, phase, announced) values ($1, $2, $3) on conflict do nothing")
                .bind(key)
                .bind(fault.as_str())
                .bind(announced)
                .execute(&self.pool)
        };
        while insert().await.is_err() {
            tokio::time::sleep(REPEAT).await;
        }
    }

    /// The same bytes again until MinIO has taken them.
    async fn put(&self, key: &StorageKey, body: Vec<u8>) -> String {
        loop {
            match self.storage.put(key, body.clone().into(), &Precondition::None).await {
                Ok(etag) => return etag,
                Err(_) => tokio::time::sleep(REPEAT).await,
            }
        }
    }

    /// Runs into the webhook, with the statement of the reconciler, which would leave so young an object alone. Once: while
    /// Postgres is away there is no race.
    async fn reconcile(&self, key: &str, etag: &str, size_bytes: u64, races: bool) {
        let object = CreatedObject {
            bucket: BUCKET.to_owned(),
            key: key.to_owned(),
            etag: Some(etag.to_owned()),
            version_id: None,
            size_bytes,
            content_type: None,
            sequencer: None,
        };
        if races && self.db.accept_object(&object, Announcer::Reconcile).await.is_ok() {
            self.races.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Until some daemon takes it.
    async fn deliver(&self, event: &str, first: usize) {
        let told = async {
            for daemon in first % self.ports.len().. {
                let call = self.client.post(url(self.ports[daemon % self.ports.len()]));
                let answer = call.bearer_auth(WEBHOOK_TOKEN).body(event.to_owned()).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(REPEAT).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("a daemon takes the webhook");
    }

    /// 200 means a committed row: looked for at once, by a way around everything of ours.
    async fn check(&self, key: &str) {
        let known = || {
            sqlx::query_scalar("select exists (select 1 from videos where object_key = $1)")
                .bind(key)
                .fetch_one(&self.pool)
        };
        let known: bool = loop {
            match known().await {
                Ok(known) => break known,
                Err(_) => tokio::time::sleep(REPEAT).await,
            }
        };
        if !known {
            self.unkept.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Of an object that nobody announces: two in three as people and cameras name their files.
fn unheard_key(number: u64) -> String {
    let name = match number % 9 {
        0 => format!("holiday clip {number} (final).mp4"),
        1 => format!("Ünïcode 影片 🎬 {number}.webm"),
        2 => format!("a+b&c=d;{number}.mp4"),
        3 => format!("100%25 done%2F{number}.mkv"),
        4 => format!("cam-7/2026/11/24/18/05/{number}.MP4"),
        5 => format!("no-extension-{number}"),
        _ => return StorageKey::Source { video: VideoId::new(), extension: "mp4" }.to_string(),
    };
    format!("raw-uploads/{name}")
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}{}", clipstream::config::WEBHOOK_PATH)
}

/// As MinIO writes it.
fn event(key: &str, etag: &str, size: u64) -> String {
    let encoded = key.replace('/', "%2F");
    json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": format!("{BUCKET}/{key}"),
        "Records": [{
            "eventName": "s3:ObjectCreated:Put",
            "s3": {
                "bucket": { "name": BUCKET },
                "object": {
                    "key": encoded,
                    "size": size,
                    "eTag": etag,
                    "contentType": "video/mp4",
                    "sequencer": format!("{size:016X}"),
                },
            },
        }],
    })
    .to_string()
}
