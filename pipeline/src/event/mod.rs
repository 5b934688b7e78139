//! MinIO's notification body: from its fields to the one fact that matters, "this object was created". Pure.
//! Every field is optional here: what is missing or odd is told per record, never by refusing the whole body.

use serde::Deserialize;

/// Where sources lie; nothing else in the bucket starts a pipeline.
pub const SOURCE_PREFIX: &str = "raw-uploads/";

/// Objects with this prefix are put by `clipstream doctor` to see its own event come back. They end in the quarantine,
/// where the doctor finds them, and never become videos.
pub const DOCTOR_PREFIX: &str = "raw-uploads/.clipstream-doctor-";

const MAX_KEY_BYTES: usize = 1024;

/// Far more than any server's ETag or version. An uploader can forge an ETag of kilobytes, and bucket, key and identity
/// must fit into one entry of an index.
const MAX_IDENTITY_BYTES: usize = 256;

/// One created object under `raw-uploads/`, as an event or a listing names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedObject {
    pub bucket: String,
    /// Decoded.
    pub key: String,
    /// Without quotes.
    pub etag: Option<String>,
    pub version_id: Option<String>,
    pub size_bytes: u64,
    pub content_type: Option<String>,
    pub sequencer: Option<String>,
}

impl CreatedObject {
    /// `version:<id>`, else `etag:<etag>`: with bucket and key, which video it is.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        match (&self.version_id, &self.etag) {
            (Some(version), _) => Some(format!("version:{version}")),
            (None, Some(etag)) => Some(format!("etag:{etag}")),
            (None, None) => None,
        }
    }

    /// Whether Postgres can hold it; the error says why not. What a listing names goes by the same rules as events.
    pub fn check(&self) -> Result<(), String> {
        let key = &self.key;
        let Some(identity) = self.identity() else {
            return Err(format!("the object {key:?} has neither ETag nor version"));
        };
        if identity.len() > MAX_IDENTITY_BYTES {
            return Err(format!(
                "the ETag or version of {key:?} makes {} bytes, at most {MAX_IDENTITY_BYTES} are allowed",
                identity.len()
            ));
        }
        if i64::try_from(self.size_bytes).is_err() {
            return Err(format!("the size of {key:?} cannot be {} bytes", self.size_bytes));
        }
        let texts = [&self.etag, &self.version_id, &self.content_type, &self.sequencer];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(format!("a field of {key:?} holds a NUL"));
        }
        Ok(())
    }
}

/// What one record of an event means to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Created(CreatedObject),
    /// Well-formed and none of our business.
    Ignored(Irrelevant),
    /// Should have named an object of ours and does not; the text is for an operator.
    Unusable(String),
}

/// Why a well-formed record is none of our business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Irrelevant {
    /// Tagging, retention, removal: not one of the four ways in which an object comes to be.
    OtherEvent(String),
    /// A key that ends in `/`: what consoles make to show an empty folder.
    FolderMarker,
}

/// The body of one call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Notification {
    #[serde(rename = "EventName")]
    event_name: Option<String>,
    /// Bucket and key, not encoded.
    #[serde(rename = "Key")]
    key: Option<String>,
    #[serde(rename = "Records")]
    records: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawRecord {
    #[serde(rename = "eventName")]
    event_name: Option<String>,
    s3: Option<RawEntity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawEntity {
    bucket: Option<RawBucket>,
    object: Option<RawObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawBucket {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawObject {
    key: Option<String>,
    /// Left out by MinIO when it is 0.
    size: Option<u64>,
    #[serde(rename = "eTag")]
    etag: Option<String>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    #[serde(rename = "versionId")]
    version_id: Option<String>,
    sequencer: Option<String>,
}

impl Notification {
    /// What each record means, in their order. Empty when the body has no records.
    #[must_use]
    pub fn records(self, bucket: &str) -> Vec<Record> {
        let records = self.records.unwrap_or_default();
        // The unencoded key stands once per body, so it can only vouch for a lone record.
        let whole_key = self.key.filter(|_| records.len() == 1);
        records
            .into_iter()
            .map(|record| {
                let record = match RawRecord::deserialize(record) {
                    Ok(record) => record,
                    Err(error) => {
                        return Record::Unusable(format!("the record cannot be read: {error}"));
                    }
                };
                let name = record.event_name.or_else(|| self.event_name.clone());
                read_record(name, record.s3, bucket, whole_key.as_deref())
                    .unwrap_or_else(Record::Unusable)
            })
            .collect()
    }
}

fn read_record(
    name: Option<String>,
    entity: Option<RawEntity>,
    bucket: &str,
    whole_key: Option<&str>,
) -> Result<Record, String> {
    let name = name.ok_or("the record names no event")?;
    if !is_creation(&name) {
        return Ok(Record::Ignored(Irrelevant::OtherEvent(name)));
    }
    let entity = entity.unwrap_or_default();
    let object = entity.object.unwrap_or_default();
    let named = entity.bucket.and_then(|bucket| bucket.name).ok_or("the record names no bucket")?;
    if named != bucket {
        return Err(format!("the record is about bucket {named:?}, ours is {bucket:?}"));
    }
    let key = form_decode(&object.key.ok_or("the record names no key")?)?;
    if let Some(whole_key) = whole_key
        && whole_key.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('/')) != Some(&*key)
    {
        return Err(format!("the record's key {key:?} and the event's key {whole_key:?} differ"));
    }
    if key.ends_with('/') {
        return Ok(Record::Ignored(Irrelevant::FolderMarker));
    }
    check_key(&key)?;
    let created = CreatedObject {
        bucket: named,
        key,
        etag: object.etag.as_deref().and_then(bare_etag),
        // "null" is the one version of an unversioned object: it names nothing that its ETag does not.
        version_id: object.version_id.filter(|id| !id.is_empty() && id != "null"),
        size_bytes: object.size.unwrap_or(0),
        content_type: object.content_type.filter(|text| !text.is_empty()),
        sequencer: object.sequencer.filter(|text| !text.is_empty()),
    };
    created.check()?;
    Ok(Record::Created(created))
}

/// Exactly the four ways in which an object comes to be. MinIO also counts tagging and retention as `ObjectCreated`.
fn is_creation(name: &str) -> bool {
    matches!(
        name.strip_prefix("s3:").unwrap_or(name),
        "ObjectCreated:Put"
            | "ObjectCreated:Post"
            | "ObjectCreated:Copy"
            | "ObjectCreated:CompleteMultipartUpload"
    )
}

/// An ETag without the quotes that listings put around it; `None` when nothing is left.
#[must_use]
pub fn bare_etag(etag: &str) -> Option<String> {
    let bare = etag.trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// Whether a decoded key may become a video's; the error says why not. Listings go by the same rules as events.
pub fn check_key(key: &str) -> Result<(), String> {
    if !key.starts_with(SOURCE_PREFIX) {
        return Err(format!("the key {key:?} does not start with {SOURCE_PREFIX}"));
    }
    if key.starts_with(DOCTOR_PREFIX) {
        return Err("a probe of `clipstream doctor`".to_owned());
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(format!("the key is {} bytes long, at most 1,024 are allowed", key.len()));
    }
    if key.chars().any(char::is_control) {
        return Err(format!("the key {key:?} holds control characters"));
    }
    if key.split('/').any(|segment| segment == "..") {
        return Err(format!("the key {key:?} holds a `..` segment"));
    }
    Ok(())
}

/// Undoes Go's `url.QueryEscape`: `+` is a space, `%XX` a byte. A raw `/` is taken as it is: other servers send it so.
fn form_decode(encoded: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(format!("the key {encoded:?} is not form-encoded")),
            },
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| format!("the key {encoded:?} is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
