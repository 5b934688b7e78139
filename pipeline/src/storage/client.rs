//! [`Storage`]: one bucket, the client behind it, and the deadline around every call.
//! The client never leaves this folder: its `Debug` would print what it holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use minio::s3::creds::{Credentials, Provider};
use minio::s3::error::Error;
use minio::s3::http::BaseUrl;
use minio::s3::types::Region;
use minio::s3::{MinioClient, MinioClientBuilder};
use rusty_s3::UrlStyle;
use url::Url;

use super::error::{chain, classify};
use super::{StorageConfig, StorageError};

/// A bucket. Cheap to clone; never prints its keys.
#[derive(Clone)]
pub struct Storage {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) client: MinioClient,
    pub(super) bucket: String,
    pub(super) endpoint: Url,
    /// The bucket as users reach it, for URLs only.
    pub(super) public: rusty_s3::Bucket,
    pub(super) signer: rusty_s3::Credentials,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("bucket", &self.inner.bucket).finish_non_exhaustive()
    }
}

/// The crate's own provider prints the secret key in its `Debug`; this one has nothing to print.
struct Keys {
    access_key: String,
    secret_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Provider for Keys {
    fn fetch(&self) -> Credentials {
        Credentials {
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: None,
        }
    }
}

impl Storage {
    /// Does not connect: the daemon starts while MinIO is down.
    pub fn new(config: &StorageConfig) -> Result<Self, StorageError> {
        let mut base: BaseUrl = config.endpoint.as_str().parse().map_err(|error| {
            StorageError::Config(format!(
                "MINIO_ENDPOINT {}: {}. It wants http:// or https://, a host, a port, and no path",
                config.endpoint,
                chain(&error)
            ))
        })?;
        // A region of its own saves the crate from asking MinIO for it before the first call.
        base.region = Region::new(config.region.as_str())
            .map_err(|error| StorageError::Config(format!("MINIO_REGION: {}", chain(&error))))?;
        let keys =
            Keys { access_key: config.access_key.clone(), secret_key: config.secret_key.clone() };
        let client = MinioClientBuilder::new(base)
            .provider(Some(keys))
            .app_info(Some(("clipstream".to_owned(), env!("CARGO_PKG_VERSION").to_owned())))
            .build()
            .map_err(|error| classify(error, "the client"))?;
        let public = rusty_s3::Bucket::new(
            config.public_endpoint.clone(),
            UrlStyle::Path,
            config.bucket.clone(),
            config.region.clone(),
        )
        .map_err(|error| {
            StorageError::Config(format!(
                "MINIO_PUBLIC_ENDPOINT {}: {error}. It wants http:// or https:// and a host",
                config.public_endpoint
            ))
        })?;
        let signer =
            rusty_s3::Credentials::new(config.access_key.clone(), config.secret_key.clone());
        let bucket = config.bucket.clone();
        let endpoint = config.endpoint.clone();
        Ok(Self { inner: Arc::new(Inner { client, bucket, endpoint, public, signer }) })
    }

    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    pub(super) fn client(&self) -> &MinioClient {
        &self.inner.client
    }

    /// How an object is named in errors.
    pub(super) fn named(&self, key: &str) -> String {
        format!("{}/{key}", self.inner.bucket)
    }
}

/// One try of one call, ended at its deadline. Dropping the call closes its connection; MinIO may still do it.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(error, what)),
        Err(_) => Err(StorageError::Unavailable(format!("{what}: no answer within {limit:?}"))),
    }
}

/// An ETag without its quotes. LIST has them, HEAD and events have not; with them one object would be two videos.
pub(super) fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

/// A version id that names something: `null` is the one version of a bucket that keeps none.
pub(super) fn real_version(id: Option<&str>) -> Option<String> {
    id.filter(|id| !id.is_empty() && *id != "null").map(str::to_owned)
}

/// A key that addresses one object and no other. The crates would drop a leading slash and resolve dot segments.
pub(super) fn checked(key: &str) -> Result<&str, StorageError> {
    let unusable = key.is_empty()
        || key.len() > 1024
        || key.split('/').any(|segment| segment == "." || segment == "..")
        || key.starts_with('/');
    if unusable {
        return Err(StorageError::NotFound(format!("{key:?} cannot be the key of an object")));
    }
    Ok(key)
}
