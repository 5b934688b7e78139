//! Parts of objects against a real MinIO: of the version that was meant or not at all, and whole also when connections break.

use std::ops::Range;

use pipeline::storage::{ObjectVersion, Precondition, Storage, StorageError, StorageKey};
use pipeline::video::VideoId;

use crate::proxy::Proxy;
use crate::storage::bytes_of::pattern;
use crate::support::minio;

pub(crate) async fn read_range(
    storage: &Storage,
    object: &ObjectVersion,
    range: Range<u64>,
) -> Result<Vec<u8>, StorageError> {
    let mut reader = storage.read(object, range);
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_read_goes_on_where_the_connection_broke() {
    let minio = minio().await;
    let body = pattern(3 * 1024 * 1024);
    let key = StorageKey::Source { video: VideoId::new(), extension: "mp4" };
    let etag = Storage::new(&minio.storage_config())
        .expect("usable settings")
        .put(&key, body.clone().into(), &Precondition::None)
        .await
        .expect("written");
    let proxy = Proxy::cutting(&minio.endpoint, 1024 * 1024, 2).await;
    let mut config = minio.storage_config();
    config.endpoint = proxy.endpoint();
    let storage = Storage::new(&config).expect("usable settings");

    let size_bytes = body.len() as u64;
    let object = ObjectVersion { key: key.to_string(), etag, size_bytes };
    let got = read_range(&storage, &object, 5..size_bytes - 5).await.expect("a part");
    assert!(got == body[5..body.len() - 5], "the bytes differ");
    assert_eq!(proxy.cuts_left(), 0, "the connection was to break twice");
}

#[tokio::test]
async fn an_object_that_was_overwritten_or_has_another_size_is_not_read() {
    let minio = minio().await;
    let storage = Storage::new(&minio.storage_config()).expect("usable settings");
    let key = StorageKey::Source { video: VideoId::new(), extension: "mp4" };
    let etag = storage.put(&key, "old".into(), &Precondition::None).await.expect("written");
    let old = ObjectVersion { key: key.to_string(), etag, size_bytes: 3 };
    assert_eq!(read_range(&storage, &old, 1..3).await.expect("it is there"), b"ld");
    let larger = ObjectVersion { size_bytes: 4, ..old.clone() };
    let smaller = ObjectVersion { size_bytes: 2, ..old.clone() };
    for (object, range) in [(&larger, 0..2), (&larger, 0..4), (&larger, 3..4), (&smaller, 0..2)] {
        let ended = read_range(&storage, object, range).await;
        assert!(matches!(ended, Err(StorageError::PreconditionFailed(_))), "{ended:?}");
    }
    storage.put(&key, "new".into(), &Precondition::None).await.expect("written");
    let ended = read_range(&storage, &old, 1..3).await;
    assert!(matches!(ended, Err(StorageError::PreconditionFailed(_))), "{ended:?}");
    let gone = ObjectVersion { key: "raw-uploads/none".into(), ..old };
    let gone = read_range(&storage, &gone, 0..1).await;
    assert!(matches!(gone, Err(StorageError::NotFound(_))), "{gone:?}");
}
