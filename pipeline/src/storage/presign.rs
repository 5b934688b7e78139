//! URLs for users: presigned PUT and GET, and plain ones for what anybody may read.
//! A presigned URL is a secret until it expires: it goes into an answer to its user and nowhere else.

use std::time::Duration;

use rusty_s3::S3Action as _;
use url::Url;

use super::{PresignedPut, Storage, StorageKey};
use crate::clock;

impl Storage {
    /// Signs content-length, content-type and if-none-match: the URL takes exactly this upload, once.
    /// `content_type` must be a legal header value; it is signed as it is.
    #[must_use]
    pub fn presign_put(
        &self,
        key: &StorageKey,
        size_bytes: u64,
        content_type: &str,
        lifetime: Duration,
    ) -> PresignedPut {
        let key = key.to_string();
        let headers = vec![
            ("content-length".to_owned(), size_bytes.to_string()),
            ("content-type".to_owned(), content_type.to_owned()),
            ("if-none-match".to_owned(), "*".to_owned()),
        ];
        let mut action = self.inner.public.put_object(Some(&self.inner.signer), &key);
        for (name, value) in &headers {
            action.headers_mut().insert(name.as_str(), value.as_str());
        }
        // Before signing, so that we never promise a moment more than MinIO grants.
        let expires_at = clock::now() + lifetime;
        PresignedPut { url: action.sign(lifetime), headers, expires_at }
    }

    /// Anybody who has the URL may read the object until it expires.
    #[must_use]
    pub fn presign_get(&self, key: &str, lifetime: Duration) -> Url {
        self.inner.public.get_object(Some(&self.inner.signer), key).sign(lifetime)
    }

    /// For what the bucket policy lets anybody read.
    #[must_use]
    pub fn public_url(&self, key: &StorageKey) -> Url {
        self.inner.public.object_url(&key.to_string())
    }
}
