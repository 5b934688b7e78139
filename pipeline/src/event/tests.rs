//! Bodies as MinIO sends them, and as nobody should.

use serde_json::{Value, json};

use super::*;

/// A body as the real server sends it for a presigned PUT.
fn body(encoded_key: &str, whole_key: &str) -> Value {
    json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": whole_key,
        "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "",
            "eventTime": "2026-11-21T02:03:04.123Z",
            "eventName": "s3:ObjectCreated:Put",
            "userIdentity": {"principalId": "presign-key"},
            "requestParameters": {"principalId": "presign-key", "region": "", "sourceIPAddress": "10.0.0.9"},
            "responseElements": {"x-amz-request-id": "1879F0", "x-minio-origin-endpoint": "http://10.0.0.2:9000"},
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "Config",
                "bucket": {"name": "clipstream", "ownerIdentity": {"principalId": "presign-key"}, "arn": "arn:aws:s3:::clipstream"},
                "object": {
                    "key": encoded_key, "size": 1234, "eTag": "900150983cd24fb0d6963f7d28e17f72",
                    "contentType": "video/mp4", "userMetadata": {"content-type": "video/mp4"},
                    "sequencer": "1879F0A1B2C3D4E5"
                }
            },
            "source": {"host": "10.0.0.9", "port": "", "userAgent": "curl/8"}
        }]
    })
}

fn usual() -> Value {
    body("raw-uploads%2Fa.mp4", "clipstream/raw-uploads/a.mp4")
}

fn records(body: Value) -> Vec<Record> {
    serde_json::from_value::<Notification>(body).expect("an event").records("clipstream")
}

fn only(body: Value) -> Record {
    let mut records = records(body);
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn created(body: Value) -> CreatedObject {
    match only(body) {
        Record::Created(object) => object,
        other => panic!("{other:?}"),
    }
}

fn reason(body: Value) -> String {
    match only(body) {
        Record::Unusable(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// The usual body with one field of the object set, or removed by `null`.
fn with_object(field: &str, value: Value) -> Value {
    let mut body = usual();
    let object = &mut body["Records"][0]["s3"]["object"];
    match value {
        Value::Null => drop(object.as_object_mut().expect("object").remove(field)),
        value => object[field] = value,
    }
    body
}

#[test]
fn a_presigned_put_is_a_created_object_with_all_its_fields() {
    assert_eq!(
        created(usual()),
        CreatedObject {
            bucket: "clipstream".into(),
            key: "raw-uploads/a.mp4".into(),
            etag: Some("900150983cd24fb0d6963f7d28e17f72".into()),
            version_id: None,
            size_bytes: 1234,
            content_type: Some("video/mp4".into()),
            sequencer: Some("1879F0A1B2C3D4E5".into()),
        }
    );
}

#[test]
fn keys_are_form_decoded_once() {
    for (encoded, key) in [
        ("raw-uploads%2F%C3%BC+%2B%26%23%3F%25.mp4", "raw-uploads/ü +&#?%.mp4"),
        ("raw-uploads%2Fmy+clip%2B1.mp4", "raw-uploads/my clip+1.mp4"),
        ("raw-uploads%2F100%2525.mp4", "raw-uploads/100%25.mp4"),
        ("raw-uploads%2fa%2fb.mp4", "raw-uploads/a/b.mp4"),
        ("raw-uploads/raw/slashes.mp4", "raw-uploads/raw/slashes.mp4"),
        ("raw-uploads%2F..a%2Fb..", "raw-uploads/..a/b.."),
    ] {
        assert_eq!(created(body(encoded, &format!("clipstream/{key}"))).key, key);
    }
}

#[test]
fn exactly_the_four_creations_count() {
    for (name, counts) in [
        ("s3:ObjectCreated:Put", true),
        ("s3:ObjectCreated:Post", true),
        ("s3:ObjectCreated:Copy", true),
        ("s3:ObjectCreated:CompleteMultipartUpload", true),
        ("ObjectCreated:Put", true),
        ("s3:ObjectCreated:PutTagging", false),
        ("s3:ObjectCreated:DeleteTagging", false),
        ("s3:ObjectCreated:PutRetention", false),
        ("s3:ObjectCreated:PutLegalHold", false),
        ("s3:ObjectCreated:*", false),
        ("s3:ObjectRemoved:Delete", false),
        ("s3:Scanner:ManyVersions", false),
        ("", false),
    ] {
        let mut body = usual();
        body["Records"][0]["eventName"] = json!(name);
        match only(body) {
            Record::Created(_) => assert!(counts, "{name}"),
            Record::Ignored(Irrelevant::OtherEvent(told)) => {
                assert!(!counts, "{name}");
                assert_eq!(told, name);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_folder_marker_is_ignored() {
    for (encoded, key) in
        [("raw-uploads%2F", "raw-uploads/"), ("raw-uploads%2Fx%2F", "raw-uploads/x/")]
    {
        let body = body(encoded, &format!("clipstream/{key}"));
        assert_eq!(only(body), Record::Ignored(Irrelevant::FolderMarker));
    }
}

#[test]
fn a_missing_size_is_zero_bytes() {
    assert_eq!(created(with_object("size", Value::Null)).size_bytes, 0);
}

#[test]
fn quotes_are_no_part_of_an_etag() {
    assert_eq!(created(with_object("eTag", json!("\"abc-2\""))).etag.as_deref(), Some("abc-2"));
}

#[test]
fn identity_is_the_version_else_the_etag() {
    let etag = "etag:900150983cd24fb0d6963f7d28e17f72";
    for (version, identity) in
        [(json!("v1"), "version:v1"), (json!("null"), etag), (json!(""), etag), (Value::Null, etag)]
    {
        let object = created(with_object("versionId", version));
        assert_eq!(object.identity().as_deref(), Some(identity));
    }
}

#[test]
fn what_names_no_object_of_ours_is_unusable_and_says_why() {
    let long = format!("raw-uploads/{}", "a".repeat(1013));
    for (encoded, key, says) in [
        ("processed-videos%2Fa.mp4", "processed-videos/a.mp4", "does not start with raw-uploads/"),
        ("%2Fraw-uploads%2Fa.mp4", "/raw-uploads/a.mp4", "does not start with raw-uploads/"),
        ("raw-uploads%2Fa%0Ab.mp4", "raw-uploads/a\nb.mp4", "control characters"),
        ("raw-uploads%2F..%2Fb.mp4", "raw-uploads/../b.mp4", "`..` segment"),
        ("raw-uploads%2F%FF.mp4", "raw-uploads/\u{fffd}.mp4", "not UTF-8"),
        ("raw-uploads%2F100%.mp4", "raw-uploads/100%.mp4", "not form-encoded"),
        ("raw-uploads%2Fa%2", "raw-uploads/a", "not form-encoded"),
        ("raw-uploads%2Fa.mp4", "raw-uploads/b.mp4", "differ"),
        ("raw-uploads%2F.clipstream-doctor-1", "raw-uploads/.clipstream-doctor-1", "doctor"),
        (&long, &long, "1025 bytes"),
    ] {
        let reason = reason(body(encoded, &format!("clipstream/{key}")));
        assert!(reason.contains(says), "{encoded}: {reason}");
    }
}

#[test]
fn what_postgres_cannot_hold_is_unusable_and_says_why() {
    for (field, value, says) in [
        ("eTag", json!("f".repeat(3_000)), "3005 bytes"),
        ("versionId", json!("f".repeat(249)), "257 bytes"),
        ("size", json!(u64::MAX), "cannot be 18446744073709551615 bytes"),
        ("eTag", json!("a\0b"), "NUL"),
        ("contentType", json!("video/\0"), "NUL"),
        ("sequencer", json!("\0"), "NUL"),
    ] {
        let reason = reason(with_object(field, value));
        assert!(reason.contains(says), "{field}: {reason}");
    }
    created(with_object("eTag", json!("f".repeat(251))));
}

#[test]
fn a_foreign_bucket_is_unusable() {
    let mut body = usual();
    body["Records"][0]["s3"]["bucket"]["name"] = json!("holiday");
    assert!(reason(body).contains("\"holiday\""));
}

#[test]
fn every_field_may_be_missing() {
    for (pointer, says) in [
        ("/Records/0/s3", "no bucket"),
        ("/Records/0/s3/bucket", "no bucket"),
        ("/Records/0/s3/object", "no key"),
        ("/Records/0/s3/object/key", "no key"),
        ("/Records/0/s3/object/eTag", "neither ETag nor version"),
    ] {
        let mut body = usual();
        *body.pointer_mut(pointer).expect(pointer) = Value::Null;
        assert!(reason(body).contains(says), "{pointer}");
    }
    let mut nameless = usual();
    nameless["EventName"] = Value::Null;
    nameless["Records"][0]["eventName"] = Value::Null;
    assert!(reason(nameless).contains("no event"));
    for pointer in ["/EventName", "/Key", "/Records/0/eventName", "/Records/0/s3/object/sequencer"]
    {
        let mut body = usual();
        *body.pointer_mut(pointer).expect(pointer) = Value::Null;
        created(body);
    }
}

#[test]
fn several_records_are_read_one_by_one() {
    let mut body = usual();
    let mut foreign = body["Records"][0].clone();
    foreign["s3"]["bucket"]["name"] = json!("holiday");
    let mut second = body["Records"][0].clone();
    second["s3"]["object"]["key"] = json!("raw-uploads%2Fb.mp4");
    body["Records"].as_array_mut().expect("records").extend([foreign, second]);
    let records = records(body);
    assert!(matches!(&records[0], Record::Created(object) if object.key == "raw-uploads/a.mp4"));
    assert!(matches!(&records[1], Record::Unusable(_)));
    assert!(matches!(&records[2], Record::Created(object) if object.key == "raw-uploads/b.mp4"));
}

#[test]
fn a_body_without_records_has_none() {
    assert_eq!(records(json!({})), []);
    assert_eq!(records(json!({"Records": null})), []);
    assert_eq!(records(json!({"Records": [], "EventName": "s3:ObjectCreated:Put"})), []);
}
