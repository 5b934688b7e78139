//! Single objects and listings: HEAD, PUT, DELETE, LIST.
//! Bodies that do not fit in memory are in `transfer`.

use bytes::Bytes;
use futures_util::StreamExt;
use minio::s3::builders::{PutObject, UploadPart, VersioningStatus};
use minio::s3::error::{Error, ValidationErr};
use minio::s3::multimap_ext::Multimap;
use minio::s3::response_traits::{HasEtagFromHeaders, HasS3Fields, HasVersion};
use minio::s3::segmented_bytes::SegmentedBytes;
use minio::s3::types::{BucketName, ListEntry, ObjectKey, S3Api, ToStream};
use time::OffsetDateTime;

use super::attempts::{CALL, by_size, repeated};
use super::client::{checked, real_version, unquoted, within};
use super::key::RAW_UPLOADS;
use super::{ListedObject, ObjectInfo, Precondition, Storage, StorageError, StorageKey};

/// Most entries that S3 gives in one answer.
const PAGE: u16 = 1000;

impl Storage {
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StorageError> {
        let (key, what) = (checked(key)?, self.named(key));
        let answer = repeated(|| {
            within(CALL, &what, async {
                self.client().stat_object(self.bucket(), key)?.build().send().await
            })
        })
        .await?;
        let unreadable = |error: ValidationErr| StorageError::Refused(format!("{what}: {error}"));
        Ok(ObjectInfo {
            size_bytes: answer.size().map_err(unreadable)?,
            etag: unquoted(answer.etag().map_err(unreadable)?.as_str()),
            version_id: real_version(answer.version_id().as_ref().map(AsRef::as_ref)),
            content_type: header(&answer, "content-type"),
            last_modified: answer
                .last_modified()
                .map_err(unreadable)?
                .and_then(|at| OffsetDateTime::from_unix_timestamp(at.timestamp()).ok()),
        })
    }

    /// Writes with the key's content type and cache headers; returns the ETag. The whole body is signed by its
    /// SHA-256, so that MinIO refuses what arrives short or changed.
    pub async fn put(
        &self,
        key: &StorageKey,
        body: Bytes,
        precondition: &Precondition,
    ) -> Result<String, StorageError> {
        let attempt = || self.put_once(key, body.clone(), precondition);
        match precondition {
            Precondition::None => repeated(attempt).await,
            // Not repeated: after a lost answer the second try would meet the object of the first, and the caller
            // would take its own write for somebody else's.
            Precondition::IfAbsent | Precondition::IfMatch(_) => attempt().await,
        }
    }

    async fn put_once(
        &self,
        key: &StorageKey,
        body: Bytes,
        precondition: &Precondition,
    ) -> Result<String, StorageError> {
        let name = key.to_string();
        let what = self.named(&name);
        let mut headers = Multimap::new();
        headers.insert("cache-control".into(), key.cache_control().into());
        match precondition {
            Precondition::None => {}
            Precondition::IfAbsent => headers.insert("if-none-match".into(), "*".into()),
            Precondition::IfMatch(etag) => headers.insert("if-match".into(), quoted(etag)),
        }
        let limit = by_size(body.len() as u64);
        let answer = within(limit, &what, async {
            let part = UploadPart::builder()
                .client(self.client().clone())
                .bucket(BucketName::new(self.bucket())?)
                .object(ObjectKey::new(name.as_str())?)
                .extra_headers(headers)
                .content_type(key.content_type().to_owned())
                .data(SegmentedBytes::from(body).into())
                .build();
            // Without an upload id and a part number, the crate's part upload is a PutObject; only it takes headers.
            PutObject::builder().inner(part).build().send().await
        })
        .await?;
        let etag = answer
            .etag()
            .map_err(|error| StorageError::Refused(format!("{what}: written, but {error}")))?;
        Ok(unquoted(etag.as_str()))
    }

    /// Deleting what is not there is fine.
    pub async fn delete(&self, key: &StorageKey) -> Result<(), StorageError> {
        self.delete_named(&key.to_string()).await
    }

    /// Deletes an object of our own making by a key from the table `objects`. Refuses a source, whatever is asked.
    pub async fn delete_result(&self, key: &str) -> Result<(), StorageError> {
        if key.starts_with(RAW_UPLOADS) {
            return Err(StorageError::Refused(format!(
                "{key} is a source, which only its owner deletes"
            )));
        }
        self.delete_named(key).await
    }

    async fn delete_named(&self, key: &str) -> Result<(), StorageError> {
        let (key, what) = (checked(key)?, self.named(key));
        let ended = repeated(|| {
            within(CALL, &what, async {
                self.client().delete_object(self.bucket(), key)?.build().send().await
            })
        })
        .await;
        match ended {
            Ok(_) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` (at most 1,000) objects after a key, in key order. Fewer than `limit` means that there are no more.
    /// Where the bucket keeps versions, the newest of each object, with its id: an event names it by that too.
    pub async fn list(
        &self,
        prefix: &str,
        start_after: &str,
        limit: u16,
    ) -> Result<Vec<ListedObject>, StorageError> {
        let limit = limit.clamp(1, PAGE);
        let versions = self.keeps_versions().await?;
        repeated(|| self.list_once(prefix, start_after, limit, versions)).await
    }

    async fn list_once(
        &self,
        prefix: &str,
        start_after: &str,
        limit: u16,
        versions: bool,
    ) -> Result<Vec<ListedObject>, StorageError> {
        let what = self.named(prefix);
        let after = (!start_after.is_empty()).then(|| start_after.to_owned());
        let (start_after, key_marker) = if versions { (None, after) } else { (after, None) };
        let request = within(CALL, &what, async {
            let request = self.client().list_objects(self.bucket())?;
            Ok(request
                .prefix(prefix.to_owned())
                .recursive(true)
                .max_keys(limit)
                .start_after(start_after)
                .key_marker(key_marker)
                .include_versions(versions)
                .build())
        })
        .await?;
        let mut pages = request.to_stream().await;
        let mut found = Vec::new();
        // Without versions one page is enough; with them a page may hold nothing but old ones.
        while found.len() < usize::from(limit) {
            let page = within(CALL, &what, async { pages.next().await.transpose() }).await?;
            let Some(page) = page else { break };
            let full = page.is_truncated;
            found.extend(page.contents.into_iter().filter_map(|entry| listed(entry, versions)));
            if !full {
                break;
            }
        }
        found.truncate(usize::from(limit));
        Ok(found)
    }

    /// Whether objects of the bucket have version ids, also if new ones no longer get any.
    async fn keeps_versions(&self) -> Result<bool, StorageError> {
        let answer = repeated(|| {
            within(CALL, self.bucket(), async {
                let answer = self.client().get_bucket_versioning(self.bucket())?.build();
                answer.send().await?.status().map_err(Error::from)
            })
        })
        .await?;
        Ok(match answer {
            Some(VersioningStatus::Enabled | VersioningStatus::Suspended) => true,
            None => false,
        })
    }
}

fn listed(entry: ListEntry, versions: bool) -> Option<ListedObject> {
    if entry.is_prefix || entry.is_delete_marker || (versions && !entry.is_latest) {
        return None;
    }
    Some(ListedObject {
        key: entry.name,
        size_bytes: entry.size.unwrap_or(0),
        etag: unquoted(entry.etag.as_deref().unwrap_or_default()),
        version_id: real_version(entry.version_id.as_deref()),
        last_modified: entry
            .last_modified
            .and_then(|at| OffsetDateTime::from_unix_timestamp(at.timestamp()).ok()),
    })
}

/// An ETag as the conditional headers want it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

pub(super) fn header(answer: &impl HasS3Fields, name: &str) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
