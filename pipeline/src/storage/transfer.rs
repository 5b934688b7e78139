//! Bodies: whole small objects, and downloads of any size that go on where a broken connection left off.
//! Every byte is counted against what MinIO announced: a short body must never pass for a whole one. A crash leaves
//! a partial file, which the owner of the scratch directory removes.

use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use minio::s3::response::GetObjectResponse;
use minio::s3::response_traits::{HasEtagFromHeaders, HasVersion};
use minio::s3::types::S3Api;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::time::Instant;

use super::attempts::{CALL, IDLE, TRIES, by_size, repeated};
use super::client::{checked, real_version, unquoted, within};
use super::error::chain;
use super::objects::{header, quoted};
use super::{Downloaded, ObjectInfo, Storage, StorageError};
use crate::retry::Backoff;

/// Chunks arrive in tens of kilobytes; each write to a file is a trip to another thread.
const WRITE_BUFFER: usize = 1024 * 1024;

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
        let answer = self.open(key, None, 0).await?;
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

    /// To a file, hashing on the way; resumes by ranges, and fails with `PreconditionFailed` when the ETag is another.
    pub async fn download(
        &self,
        key: &str,
        etag: &str,
        to: &Path,
    ) -> Result<Downloaded, StorageError> {
        let mut file = BufWriter::with_capacity(WRITE_BUFFER, File::create(to).await?);
        let downloaded = self.read_all(key, etag, &mut file).await?;
        file.flush().await?;
        Ok(downloaded)
    }

    /// SHA-256 of an object without keeping it.
    pub async fn sha256(&self, key: &str, etag: &str) -> Result<Downloaded, StorageError> {
        self.read_all(key, etag, &mut tokio::io::sink()).await
    }

    async fn read_all(
        &self,
        key: &str,
        etag: &str,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Downloaded, StorageError> {
        checked(key)?;
        let mut reading =
            Reading { hash: Sha256::new(), received: 0, total: None, started: Instant::now() };
        let mut pauses = Backoff::new();
        let mut failures = 0;
        loop {
            let before = reading.received;
            match self.read_on(key, etag, &mut reading, to).await {
                Ok(()) => break,
                Err(StorageError::Unavailable(reason)) => {
                    // A connection that brought something is a beginning: only failures in a row count. The deadline
                    // for the whole bounds those that trickle.
                    if reading.received > before {
                        failures = 0;
                        pauses.reset();
                    }
                    failures += 1;
                    if failures >= TRIES || Instant::now() >= reading.deadline() {
                        return Err(StorageError::Unavailable(reason));
                    }
                    tracing::debug!(reason, received = reading.received, "a download broke");
                    tokio::time::sleep(pauses.next().unwrap_or(CALL)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Downloaded { size_bytes: reading.received, sha256: reading.hash.finalize().into() })
    }

    /// From where the reading stands to the end of the object, on one connection.
    async fn read_on(
        &self,
        key: &str,
        etag: &str,
        reading: &mut Reading,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<(), StorageError> {
        if reading.total == Some(reading.received) {
            return Ok(());
        }
        let what = self.named(key);
        let answer = self.open(key, Some(etag), reading.received).await?;
        let range = header(&answer, "content-range");
        let mut body = Body::of(answer, &what)?;
        if reading.received > 0 {
            let wanted = format!("bytes {}-", reading.received);
            if !range.is_some_and(|range| range.starts_with(&wanted)) {
                return Err(StorageError::Refused(format!(
                    "{what}: asked for a range, got another"
                )));
            }
        }
        let total = reading.received + body.announced;
        if *reading.total.get_or_insert(total) != total {
            return Err(StorageError::PreconditionFailed(what));
        }
        let deadline = reading.deadline();
        while let Some(chunk) = body.chunk(&what, deadline).await? {
            to.write_all(&chunk).await?;
            // Tens of kilobytes take tens of microseconds: not worth another thread.
            reading.hash.update(&chunk);
            reading.received += chunk.len() as u64;
        }
        Ok(())
    }

    /// The answer to a GET, its body not yet read.
    async fn open(
        &self,
        key: &str,
        etag: Option<&str>,
        offset: u64,
    ) -> Result<GetObjectResponse, StorageError> {
        within(CALL, &self.named(key), async {
            self.client()
                .get_object(self.bucket(), key)?
                .match_etag(etag.map(quoted))
                .offset((offset > 0).then_some(offset))
                .build()
                .send()
                .await
        })
        .await
    }
}

/// How far a download has come, over all its connections.
struct Reading {
    hash: Sha256,
    received: u64,
    /// Size of the object, known from the first answer.
    total: Option<u64>,
    started: Instant,
}

impl Reading {
    fn deadline(&self) -> Instant {
        self.started + by_size(self.total.unwrap_or(0))
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
