//! The door to MinIO: objects, presigned URLs, and the set-up of bucket, policy and event rules.
//! The crates `minio` and `rusty-s3` are seen nowhere else; their errors become [`StorageError`] here.
//!
//! Every call has a deadline and every idempotent call is tried again a little later; neither is in the crates.
//! Nothing in here may print a secret: the crates' own types do (their `Debug` shows the secret key), so they stay
//! behind [`Storage`].

mod attempts;
mod client;
mod error;
mod figures;
pub mod key;
mod notification;
mod objects;
mod policy;
mod presign;
mod setup;
mod transfer;

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use url::Url;

pub use client::Storage;
pub use error::StorageError;
pub use figures::{EventFigures, TargetFigures};
pub use key::StorageKey;
pub use notification::{
    DURABLE_TARGET, IMMEDIATE_TARGET, MissingTarget, NotificationReport, missing_target_help,
    webhook_targets,
};
pub use setup::{Ensured, SetupState};
pub use transfer::RangeReader;

/// How long a presigned PUT may be started. The upload itself may take longer.
pub const UPLOAD_URL_LIFETIME: Duration = Duration::from_mins(5);

/// How to reach a bucket.
#[derive(Clone)]
pub struct StorageConfig {
    /// Where the daemon reaches MinIO.
    pub endpoint: Url,
    /// Where users reach it: the host in presigned and public URLs.
    pub public_endpoint: Url,
    pub region: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageConfig")
            .field("endpoint", &self.endpoint.as_str())
            .field("public_endpoint", &self.public_endpoint.as_str())
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// What HEAD says of an object. `etag` has no quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub size_bytes: u64,
    pub etag: String,
    /// `None` also for the version `null` of a bucket without versioning: such an object can be overwritten in place.
    pub version_id: Option<String>,
    pub content_type: Option<String>,
    pub last_modified: Option<OffsetDateTime>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size_bytes: u64,
    /// Without quotes.
    pub etag: String,
    pub version_id: Option<String>,
    pub last_modified: Option<OffsetDateTime>,
}

/// A precondition of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// Only if nothing is there.
    IfAbsent,
    /// Only over the object with this ETag.
    IfMatch(String),
}

/// What an uploader needs for the PUT: exactly these headers, no more and no less.
/// The URL is a secret until it expires: whoever has it can upload.
#[derive(Clone)]
pub struct PresignedPut {
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub expires_at: OffsetDateTime,
}

impl fmt::Debug for PresignedPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedPut")
            .field("path", &self.url.path())
            .field("headers", &self.headers)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// An object as it was when it was accepted: every read of a part of it must meet the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    pub key: String,
    pub etag: String,
    pub size_bytes: u64,
}
