//! The door to MinIO against a real MinIO: keys that need escaping, presigned uploads, preconditions, broken
//! connections, outages, and that no secret leaves it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes_of::pattern;
use pipeline::storage::{
    ObjectVersion, Precondition, PresignedPut, Storage, StorageConfig, StorageError, StorageKey,
};
use pipeline::video::VideoId;
use reqwest::StatusCode;
use url::Url;
use uuid::Uuid;

use crate::s3_client::S3Client;
use crate::storage_ranges::read_range;
use crate::support::minio;

const LIFETIME: Duration = Duration::from_mins(5);

pub(crate) mod bytes_of {
    /// Bytes that differ from place to place, so that a hole or a repetition changes the hash.
    pub(crate) fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256")).collect()
    }
}

fn storage(config: &StorageConfig) -> Storage {
    Storage::new(config).expect("usable settings")
}

fn source() -> StorageKey {
    StorageKey::Source { video: VideoId::new(), extension: "mp4" }
}

fn somewhere() -> ObjectVersion {
    ObjectVersion { key: "raw-uploads/x".into(), etag: "etag".into(), size_bytes: 1 }
}

async fn upload(presigned: &PresignedPut, body: Vec<u8>, change: (&str, &str)) -> StatusCode {
    let mut request = reqwest::Client::new().put(presigned.url.clone());
    for (name, value) in &presigned.headers {
        // The client sets the length itself, by the body.
        if name != "content-length" {
            let value = if name == change.0 { change.1 } else { value };
            request = request.header(name, value);
        }
    }
    request.body(body).send().await.expect("an answer").status()
}

#[tokio::test]
async fn a_key_of_spaces_umlauts_and_reserved_characters_names_one_object_everywhere() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let s3 = S3Client::new(&minio.storage_config());
    for key in [
        "raw-uploads/ü +&#?%.mp4",
        "raw-uploads/a=b;c,d@e!f'(g)*~$:[h].mp4",
        "raw-uploads/日本 語/😀%2F+.mp4",
    ] {
        s3.put(key, b"twelve bytes").await;

        let info = storage.head(key).await.expect("it is there");
        assert_eq!(info.size_bytes, 12, "{key}");
        assert!(!info.etag.contains('"'), "{key}: {}", info.etag);

        let (body, read) = storage.get(key, 100).await.expect("it is there");
        assert_eq!((&*body, &read.etag), (&b"twelve bytes"[..], &info.etag), "{key}");

        let listed = storage.list("raw-uploads/", "", 1000).await.expect("a listing");
        let listed = listed.iter().find(|object| object.key == key).expect("it is listed");
        assert_eq!((listed.size_bytes, &listed.etag), (12, &info.etag), "{key}");

        let url = storage.presign_get(key, LIFETIME);
        let answer = reqwest::get(url).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{key}");
        assert_eq!(answer.text().await.expect("a body"), "twelve bytes", "{key}");

        let object = ObjectVersion { key: key.into(), etag: info.etag, size_bytes: 12 };
        assert_eq!(read_range(&storage, &object, 7..12).await.expect("a part"), b"bytes", "{key}");
    }
}

#[tokio::test]
async fn a_key_that_would_address_another_object_is_not_asked_for() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let key = source();
    storage.put(&key, "x".into(), &Precondition::None).await.expect("written");
    for odd in
        [format!("/{key}"), format!("raw-uploads/../{key}"), format!("./{key}"), String::new()]
    {
        assert!(matches!(storage.head(&odd).await, Err(StorageError::NotFound(_))), "{odd}");
        assert!(matches!(storage.get(&odd, 9).await, Err(StorageError::NotFound(_))), "{odd}");
    }
}

#[tokio::test]
async fn a_presigned_put_takes_exactly_its_upload_and_only_once() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let key = source();
    let presigned = storage.presign_put(&key, 10, "video/mp4", LIFETIME);
    let same = ("", "");

    assert_eq!(upload(&presigned, pattern(11), same).await, StatusCode::FORBIDDEN);
    assert_eq!(upload(&presigned, pattern(9), same).await, StatusCode::FORBIDDEN);
    let other_type = ("content-type", "text/html");
    assert_eq!(upload(&presigned, pattern(10), other_type).await, StatusCode::FORBIDDEN);
    let overwriting = ("if-none-match", "something");
    assert_eq!(upload(&presigned, pattern(10), overwriting).await, StatusCode::FORBIDDEN);
    let bare = reqwest::Client::new().put(presigned.url.clone()).body(pattern(10)).send().await;
    assert!(bare.expect("an answer").status().is_client_error());
    assert!(matches!(storage.head(&key.to_string()).await, Err(StorageError::NotFound(_))));

    assert_eq!(upload(&presigned, pattern(10), same).await, StatusCode::OK);
    assert_eq!(upload(&presigned, pattern(10), same).await, StatusCode::PRECONDITION_FAILED);
    let info = storage.head(&key.to_string()).await.expect("uploaded");
    assert_eq!((info.size_bytes, info.content_type.as_deref()), (10, Some("video/mp4")));
}

#[tokio::test]
async fn a_presigned_url_has_the_public_host_and_ends_when_it_says() {
    let minio = minio().await;
    let mut config = minio.storage_config();
    config.public_endpoint = Url::parse("https://clips.example.org").expect("a URL");
    let storage = Storage::new(&config).expect("usable settings");
    let presigned = storage.presign_put(&source(), 10, "video/mp4", LIFETIME);
    assert_eq!(presigned.url.host_str(), Some("clips.example.org"));
    assert!(presigned.url.query().is_some_and(|query| query.contains("X-Amz-Expires=300")));
    let left = presigned.expires_at - pipeline::clock::now();
    assert!(left <= LIFETIME && left > Duration::from_secs(290), "{left}");
    let poster = StorageKey::Poster { video: VideoId::new() };
    let url = storage.public_url(&poster);
    assert_eq!(url.as_str(), format!("https://clips.example.org/clipstream/{poster}"));
}

#[tokio::test]
async fn writes_by_etag_never_overwrite_what_they_have_not_seen() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let key = StorageKey::MasterPlaylist { video: VideoId::new() };
    let put = async |text: &'static str, precondition: Precondition| {
        storage.put(&key, text.into(), &precondition).await
    };
    let refused = |ended| matches!(ended, Err(StorageError::PreconditionFailed(_)));
    let first = put("1", Precondition::IfAbsent).await.expect("nothing was there");
    assert!(refused(put("x", Precondition::IfAbsent).await));
    let second = put("2", Precondition::IfMatch(first.clone())).await.expect("it was the first");
    assert!(refused(put("x", Precondition::IfMatch(first)).await));
    let (body, info) = storage.get(&key.to_string(), 10).await.expect("it is there");
    assert_eq!((&*body, info.etag), (&b"2"[..], second.clone()));
    assert!(put("3", Precondition::None).await.is_ok());
    storage.delete(&key).await.expect("deleted");
    storage.delete(&key).await.expect("deleting nothing is fine");
    assert!(put("x", Precondition::IfMatch(second)).await.is_err(), "there is nothing to match");
}

#[tokio::test]
async fn objects_carry_the_headers_of_their_kind() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let video = VideoId::new();
    let segment = StorageKey::Segment { video, attempt: 1, rendition: "480p".into(), number: 1 };
    for key in [segment, StorageKey::MasterPlaylist { video }, StorageKey::Poster { video }] {
        storage.put(&key, "x".into(), &Precondition::None).await.expect("written");
        let url = storage.presign_get(&key.to_string(), LIFETIME);
        let answer = reqwest::get(url).await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], key.content_type(), "{key}");
        assert_eq!(answer.headers()["cache-control"], key.cache_control(), "{key}");
    }
}

#[tokio::test]
async fn an_empty_object_is_read_and_a_large_one_refused() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let key = source();
    storage.put(&key, "".into(), &Precondition::None).await.expect("written");
    let (body, _) = storage.get(&key.to_string(), 9).await.expect("it is there");
    assert!(body.is_empty());
    storage.put(&key, "1234567890".into(), &Precondition::None).await.expect("written");
    let refused = storage.get(&key.to_string(), 9).await;
    assert!(matches!(refused, Err(StorageError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_listing_goes_on_after_a_key_and_stays_under_its_prefix() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let s3 = S3Client::new(&minio.storage_config());
    for key in
        ["raw-uploads/a", "raw-uploads/b/c", "raw-uploads/d e", "thumbnails/a", "raw-uploads/z"]
    {
        s3.put(key, b"x").await;
    }
    let page = async |after: &str, limit: u16| -> Vec<String> {
        let page = storage.list("raw-uploads/", after, limit).await.expect("a listing");
        page.into_iter().map(|object| object.key).collect()
    };
    assert_eq!(page("", 2).await, ["raw-uploads/a", "raw-uploads/b/c"]);
    assert_eq!(page("raw-uploads/b/c", 2).await, ["raw-uploads/d e", "raw-uploads/z"]);
    assert_eq!(page("raw-uploads/z", 2).await, [""; 0]);
}

#[tokio::test]
async fn where_the_bucket_keeps_versions_a_listing_names_them_as_head_does() {
    let minio = minio().await;
    let storage = storage(&minio.storage_config());
    let s3 = S3Client::new(&minio.storage_config());
    s3.put("raw-uploads/before", b"x").await;
    s3.put_config(
        "versioning",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    )
    .await;
    for body in [b"1", b"2", b"3"] {
        s3.put("raw-uploads/often", body).await;
    }
    s3.put("raw-uploads/gone", b"x").await;
    s3.delete("raw-uploads/gone").await;

    let listed = storage.list("raw-uploads/", "", 2).await.expect("a listing");
    let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["raw-uploads/before", "raw-uploads/often"]);
    for object in &listed {
        let info = storage.head(&object.key).await.expect("it is there");
        assert_eq!((&object.version_id, &object.etag), (&info.version_id, &info.etag));
    }
    assert!(listed[0].version_id.is_none() && listed[1].version_id.is_some(), "{listed:?}");
    let rest = storage.list("raw-uploads/", "raw-uploads/before", 9).await.expect("a listing");
    assert_eq!(rest.len(), 1, "{rest:?}");
}

#[tokio::test]
async fn a_minio_that_is_away_is_unavailable_at_once() {
    let minio = minio().await;
    let mut config = minio.storage_config();
    config.endpoint = Url::parse("http://127.0.0.1:9").expect("a URL");
    let storage = Storage::new(&config).expect("settings are not connections");
    let started = Instant::now();
    let key = source();
    let somewhere = somewhere();
    let (head, put, read, listed) = tokio::join!(
        storage.head("raw-uploads/x"),
        storage.put(&key, "x".into(), &Precondition::None),
        read_range(&storage, &somewhere, 0..1),
        storage.list("raw-uploads/", "", 1),
    );
    for ended in [head.map(drop), put.map(drop), read.map(drop), listed.map(drop)] {
        let error = ended.expect_err("nobody is there");
        assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
        assert!(error.to_string().to_lowercase().contains("refused"), "says why: {error}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Takes as long as the deadline: 10 seconds, the two calls at once.
#[tokio::test]
async fn a_minio_that_never_answers_is_given_up_within_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = StorageConfig {
        endpoint: Url::parse(&format!("http://127.0.0.1:{port}")).expect("a URL"),
        public_endpoint: Url::parse("http://127.0.0.1").expect("a URL"),
        region: "us-east-1".into(),
        bucket: "clipstream".into(),
        access_key: "key".into(),
        secret_key: "secret".into(),
    };
    let storage = Storage::new(&config).expect("usable settings");
    let started = Instant::now();
    let pinged = storage.ping(Duration::from_millis(300)).await;
    assert!(matches!(pinged, Err(StorageError::Unavailable(_))), "{pinged:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let head = storage.head("raw-uploads/x");
    let somewhere = somewhere();
    let read = read_range(&storage, &somewhere, 0..1);
    let (head, read) = tokio::join!(head, read);
    assert!(matches!(head, Err(StorageError::Unavailable(_))), "{head:?}");
    assert!(matches!(read, Err(StorageError::Unavailable(_))), "{read:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_missing_bucket_and_a_wrong_key_are_told_apart() {
    let minio = minio().await;
    let mut config = minio.storage_config();
    config.bucket = "elsewhere".into();
    let elsewhere = Storage::new(&config).expect("usable settings");
    let listed = elsewhere.list("raw-uploads/", "", 1).await;
    assert!(
        matches!(&listed, Err(StorageError::Denied(text)) if text.contains("MINIO_BUCKET")),
        "{listed:?}"
    );
    let pinged = elsewhere.ping(Duration::from_secs(5)).await;
    assert!(
        matches!(&pinged, Err(StorageError::Denied(text)) if text.contains("MINIO_BUCKET")),
        "{pinged:?}"
    );
    let mut config = minio.storage_config();
    config.secret_key = "not the secret".into();
    let wrong = Storage::new(&config).expect("usable settings");
    let error = wrong.list("raw-uploads/", "", 1).await.expect_err("refused");
    assert!(matches!(error, StorageError::Denied(_)), "{error}");
    assert!(error.to_string().contains("MINIO_SECRET_KEY"), "{error}");
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic holds it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_printed_or_logged() {
    let minio = minio().await;
    let logged = Captured::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let secret = "do-not-print-me-b51f";
    let mut config = minio.storage_config();
    config.secret_key = secret.into();
    let storage = Storage::new(&config).expect("usable settings");
    let presigned = storage.presign_put(&source(), 1, "video/mp4", LIFETIME);
    let signature =
        presigned.url.query_pairs().find(|(name, _)| name == "X-Amz-Signature").expect("signed").1;
    let mut printed = vec![format!("{storage:?} {config:?} {presigned:?}")];
    config.endpoint = Url::parse("http://127.0.0.1:9").expect("a URL");
    let away = Storage::new(&config).expect("usable settings");
    for storage in [&storage, &away] {
        let key = format!("raw-uploads/{}", Uuid::now_v7());
        let error = storage.head(&key).await.expect_err("refused or away");
        printed.push(format!("{error} {error:?}"));
        let error = storage.list("raw-uploads/", "", 1).await.expect_err("refused or away");
        printed.push(format!("{error} {error:?}"));
        let error = storage.ensure_policy().await.expect_err("refused or away");
        printed.push(format!("{error} {error:?}"));
    }
    drop(guard);
    let logged = logged.0.lock().expect("no panic holds it");
    printed.push(String::from_utf8_lossy(&logged).into_owned());
    let printed = printed.concat();
    assert!(printed.contains("trying again"), "the log was captured");
    assert!(!printed.contains(secret), "{printed}");
    assert!(!printed.contains(&*signature), "{printed}");
}
