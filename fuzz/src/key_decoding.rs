//! An object's key: as MinIO encodes it in an event, as somebody else may, and as the name of a file.

use std::fmt::Write;

use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::event::{Notification, Record, check_key};
use crate::storage::key::source_extension;
use crate::webhook_body::check;

/// A key that MinIO encodes comes back as it was, unless the rules refuse it; an encoded key that is taken means what an
/// independent decoder says; and a file's name lends a key nothing but one of the known extensions.
pub fn key_decoding(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for key in [text.to_owned(), format!("raw-uploads/{text}")] {
        let read = record(&escape(&key), Some(&format!("clipstream/{key}")));
        let ours = check_key(&key).is_ok() && !key.ends_with('/');
        match read {
            Record::Created(object) => {
                assert!(ours, "{key:?} should have been refused");
                assert_eq!(object.key, key);
                check(&object);
            }
            Record::Ignored(_) => assert!(key.ends_with('/')),
            Record::Unusable(reason) => assert!(!ours, "{key:?}: {reason}"),
        }
    }
    if let Record::Created(object) = record(text, None) {
        let spaces = text.replace('+', " ");
        assert_eq!(percent_decode_str(&spaces).decode_utf8().as_deref(), Ok(object.key.as_str()));
        check(&object);
    }
    let extension = source_extension(text);
    assert!(extension == "bin" || text.to_ascii_lowercase().ends_with(&format!(".{extension}")));
}

/// One record of an event, as intake reads it.
fn record(encoded: &str, whole: Option<&str>) -> Record {
    let body = json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": whole,
        "Records": [{"s3": {"bucket": {"name": "clipstream"},
            "object": {"key": encoded, "size": 1, "eTag": "900150983cd24fb0d6963f7d28e17f72"}}}],
    });
    let notification: Notification = serde_json::from_value(body).expect("an event");
    notification.records("clipstream").pop().expect("one record")
}

/// Go's `url.QueryEscape`, by which MinIO encodes.
fn escape(key: &str) -> String {
    key.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b' ' => escaped.push('+'),
            b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            plain if plain.is_ascii_alphanumeric() => escaped.push(plain.into()),
            other => write!(escaped, "%{other:02X}").expect("room in a string"),
        }
        escaped
    })
}
