//! Bodies: whole small objects, and parts of objects of any size, which go on where a broken connection left off.
//! Every byte is counted against what MinIO announced: a short body must never pass for a whole one.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use minio::s3::response::GetObjectResponse;
use minio::s3::response_traits::{HasEtagFromHeaders, HasVersion};
use minio::s3::types::S3Api;
use tokio::time::Instant;

use super::attempts::{CALL, IDLE, TRIES, by_size, repeated};
use super::client::{checked, real_version, unquoted, within};
use super::error::chain;
use super::objects::{header, quoted};
use super::{ObjectInfo, ObjectVersion, Storage, StorageError};
use crate::retry::Backoff;

impl Storage {
    /// The whole object, refused when larger than `max_bytes`.
    pub async fn get(
        &self,
        key: &str,
        max_bytes: u64,
    ) -> Result<(Bytes, ObjectInfo), StorageError> {
        checked(key)?;
        repeated(|| self.get_once(key, max_bytes)).await
    }

    async fn get_once(
        &self,
        key: &str,
        max_bytes: u64,
    ) -> Result<(Bytes, ObjectInfo), StorageError> {
        let what = self.named(key);
        let answer = self.open(key, None, None).await?;
        let etag =
            answer.etag().map_err(|error| StorageError::Refused(format!("{what}: {error}")))?;
        let mut info = ObjectInfo {
            size_bytes: 0,
            etag: unquoted(etag.as_str()),
            version_id: real_version(answer.version_id().as_ref().map(AsRef::as_ref)),
            content_type: header(&answer, "content-type"),
            last_modified: None,
        };
        let mut body = Body::of(answer, &what)?;
        info.size_bytes = body.announced;
        if body.announced > max_bytes {
            return Err(StorageError::Refused(format!(
                "{what}: {} bytes are more than the {max_bytes} that may be read at once",
                body.announced
            )));
        }
        let deadline = Instant::now() + by_size(body.announced);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk(&what, deadline).await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.into(), info))
    }

    /// A part of an object, never empty, of this version of it or not at all.
    #[must_use]
    pub fn read<'a>(&'a self, object: &'a ObjectVersion, range: Range<u64>) -> RangeReader<'a> {
        RangeReader {
            storage: self,
            object,
            what: self.named(&object.key),
            deadline: Instant::now() + by_size(range.end - range.start),
            range,
            body: None,
            failures: 0,
            pauses: Backoff::new(),
        }
    }

    /// The answer to a GET, its body not yet read.
    async fn open(
        &self,
        key: &str,
        etag: Option<&str>,
        range: Option<&Range<u64>>,
    ) -> Result<GetObjectResponse, StorageError> {
        within(CALL, &self.named(key), async {
            self.client()
                .get_object(self.bucket(), key)?
                .match_etag(etag.map(quoted))
                .offset(range.map(|range| range.start))
                .length(range.map(|range| range.end - range.start))
                .build()
                .send()
                .await
        })
        .await
    }
}

/// A part of an object while it is read.
pub struct RangeReader<'a> {
    storage: &'a Storage,
    object: &'a ObjectVersion,
    what: String,
    /// What is still to be read.
    range: Range<u64>,
    body: Option<Body>,
    /// In a row.
    failures: usize,
    pauses: Backoff,
    /// For the whole of it: bounds a connection that trickles.
    deadline: Instant,
}

impl RangeReader<'_> {
    /// The next bytes; `None` after the last. Goes on where a connection broke, and fails with `PreconditionFailed` when
    /// the object is another by now.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        while self.range.start < self.range.end {
            match self.try_chunk().await {
                Ok(Some(chunk)) => {
                    // A connection that brought something is a beginning: only failures in a row count.
                    self.failures = 0;
                    self.pauses.reset();
                    self.range.start += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => self.body = None,
                Err(StorageError::Unavailable(reason)) => {
                    self.body = None;
                    self.failures += 1;
                    if self.failures >= TRIES || Instant::now() >= self.deadline {
                        return Err(StorageError::Unavailable(reason));
                    }
                    tracing::debug!(reason, at = self.range.start, "a read broke");
                    tokio::time::sleep(self.pauses.next().unwrap_or(CALL)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn try_chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        if self.body.is_none() {
            self.body = Some(self.open().await?);
        }
        match &mut self.body {
            Some(body) => body.chunk(&self.what, self.deadline).await,
            None => Ok(None),
        }
    }

    async fn open(&mut self) -> Result<Body, StorageError> {
        let (object, range) = (self.object, &self.range);
        let key = checked(&object.key)?;
        let answer = self.storage.open(key, Some(&object.etag), Some(range)).await?;
        let got = header(&answer, "content-range").unwrap_or_default();
        let body = Body::of(answer, &self.what)?;
        let (span, size_bytes) = got.split_once('/').unwrap_or_default();
        // An uploader can forge an ETag; the size is one more thing that must be as it was.
        if size_bytes != object.size_bytes.to_string() && !size_bytes.is_empty() {
            return Err(StorageError::PreconditionFailed(self.what.clone()));
        }
        let wanted = format!("bytes {}-{}", range.start, range.end - 1);
        if span != wanted || body.announced != range.end - range.start {
            let what = &self.what;
            return Err(StorageError::Refused(format!(
                "{what}: asked for {wanted}, got {got:?} and {} bytes",
                body.announced
            )));
        }
        Ok(body)
    }
}

type Chunks = std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A body that ends only after as many bytes as were announced.
struct Body {
    chunks: Chunks,
    announced: u64,
    received: u64,
}

impl Body {
    fn of(answer: GetObjectResponse, what: &str) -> Result<Self, StorageError> {
        let (chunks, announced) = answer
            .into_boxed_stream()
            .map_err(|error| StorageError::Refused(format!("{what}: {}", chain(&error))))?;
        Ok(Self { chunks, announced, received: 0 })
    }

    async fn chunk(
        &mut self,
        what: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, StorageError> {
        let until = deadline.min(Instant::now() + IDLE);
        let broken = |why: String| {
            let (got, of) = (self.received, self.announced);
            Err(StorageError::Unavailable(format!(
                "{what}: broke off after {got} of {of} bytes: {why}"
            )))
        };
        match tokio::time::timeout_at(until, self.chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Ok(Some(Err(error))) => broken(chain(&error)),
            Ok(None) if self.received == self.announced => Ok(None),
            Ok(None) => broken("the body ended early".to_owned()),
            Err(_) => broken("too slow".to_owned()),
        }
    }
}
