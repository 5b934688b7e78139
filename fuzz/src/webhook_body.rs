//! A webhook's body, from the wire to the records that intake commits.

use crate::event::{CreatedObject, Notification, Record, SOURCE_PREFIX, check_key};

const BUCKET: &str = "clipstream";

/// Whatever the body holds, every record gets a verdict, and an object that becomes a video can be stored and named.
pub fn webhook_body(data: &[u8]) {
    let Ok(notification) = serde_json::from_slice::<Notification>(data) else { return };
    for record in notification.records(BUCKET) {
        match record {
            Record::Created(object) => check(&object),
            Record::Ignored(_) => {}
            Record::Unusable(reason) => assert!(!reason.is_empty()),
        }
    }
}

/// What Postgres and the storage rely on.
pub(crate) fn check(object: &CreatedObject) {
    assert_eq!(object.bucket, BUCKET);
    assert_eq!(check_key(&object.key), Ok(()));
    assert_eq!(object.check(), Ok(()));
    assert!(object.key.starts_with(SOURCE_PREFIX) && !object.key.ends_with('/'));
    assert!(object.key.len() <= 1024 && !object.key.chars().any(char::is_control));
    assert!(object.key.split('/').all(|segment| segment != ".."));
    let identity = object.identity().expect("an identity");
    assert!(identity.len() <= 256 && !identity.contains('\0'));
    assert!(object.etag.as_deref().is_none_or(|etag| !etag.starts_with('"')));
    assert!(i64::try_from(object.size_bytes).is_ok());
}
