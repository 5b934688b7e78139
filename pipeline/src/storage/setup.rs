//! Bucket and bucket policy: made when absent, completed when wrong, left alone when right.
//! Every step may run twice and by two processes at once; a crash between two leaves what the next run completes.

use std::time::Duration;

use minio::s3::error::Error;
use minio::s3::multimap_ext::Multimap;
use minio::s3::segmented_bytes::SegmentedBytes;
use minio::s3::types::{BucketName, S3Api, S3Request};
use serde_json::Value;

use super::attempts::{CALL, repeated};
use super::client::within;
use super::error::{code, no_such_bucket};
use super::{Storage, StorageError, policy};

/// How often, and how far apart, the policy is written until it reads back: five seconds in all.
const POLICY_TRIES: u32 = 20;
const POLICY_PAUSE: Duration = Duration::from_millis(250);

/// What a look at one part of the set-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupState {
    Right,
    /// Something is there, and it is not what we need.
    Different,
    Absent,
}

/// What making sure of one part did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    Present,
    Made,
    Repaired,
}

impl Ensured {
    pub(super) const fn from_state(before: SetupState) -> Self {
        match before {
            SetupState::Right => Ensured::Present,
            SetupState::Different => Ensured::Repaired,
            SetupState::Absent => Ensured::Made,
        }
    }

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Ensured::Present => "present",
            Ensured::Made => "made",
            Ensured::Repaired => "repaired",
        }
    }
}

impl Storage {
    /// One cheap signed call, tried once: whether MinIO answers, takes our key and has the bucket.
    pub async fn ping(&self, limit: Duration) -> Result<(), StorageError> {
        let answer = within(limit, self.bucket(), async {
            self.client().bucket_exists(self.bucket())?.build().send().await
        })
        .await?;
        if answer.exists() { Ok(()) } else { Err(no_such_bucket(self.bucket())) }
    }

    pub async fn inspect_bucket(&self) -> Result<SetupState, StorageError> {
        let answer = repeated(|| {
            within(CALL, self.bucket(), async {
                self.client().bucket_exists(self.bucket())?.build().send().await
            })
        })
        .await?;
        Ok(if answer.exists() { SetupState::Right } else { SetupState::Absent })
    }

    pub async fn ensure_bucket(&self) -> Result<Ensured, StorageError> {
        if self.inspect_bucket().await? == SetupState::Right {
            return Ok(Ensured::Present);
        }
        repeated(|| {
            within(CALL, self.bucket(), async {
                let ended = self.client().create_bucket(self.bucket())?.build().send().await;
                match ended {
                    Ok(_) => Ok(Ensured::Made),
                    // Another process was faster, or our first try was and its answer got lost.
                    Err(error) if code(&error).as_deref() == Some("bucketalreadyownedbyyou") => {
                        Ok(Ensured::Present)
                    }
                    Err(error) => Err(error),
                }
            })
        })
        .await
    }

    pub async fn inspect_policy(&self) -> Result<SetupState, StorageError> {
        let existing = self.read_policy().await?;
        Ok(match policy::completed(&existing, &policy::wanted(self.bucket())?) {
            None => SetupState::Right,
            Some(_) if existing.get("Statement").is_some() => SetupState::Different,
            Some(_) => SetupState::Absent,
        })
    }

    /// Lets anybody read thumbnails and playback. Statements of others are kept.
    pub async fn ensure_policy(&self) -> Result<Ensured, StorageError> {
        let before = self.inspect_policy().await?;
        let mut tries = 0;
        loop {
            let existing = self.read_policy().await?;
            if let Some(policy) = policy::completed(&existing, &policy::wanted(self.bucket())?) {
                self.write_policy(&policy).await?;
            }
            if self.inspect_policy().await? == SetupState::Right {
                break;
            }
            // A server that has just started still loads the settings of its buckets, and may go on showing the old ones.
            tries += 1;
            if tries == POLICY_TRIES {
                return Err(StorageError::Refused(format!(
                    "{}: the bucket policy was written and does not read back the same",
                    self.bucket()
                )));
            }
            tokio::time::sleep(POLICY_PAUSE).await;
        }
        Ok(Ensured::from_state(before))
    }

    async fn read_policy(&self) -> Result<Value, StorageError> {
        repeated(|| {
            within(CALL, self.bucket(), async {
                let answer = self.client().get_bucket_policy(self.bucket())?.build().send().await?;
                serde_json::from_str(answer.config()?)
                    .map_err(|error| Error::from(minio::s3::error::ValidationErr::from(error)))
            })
        })
        .await
    }

    /// Not by the crate's builder: it knows only some actions, and panics on the rest.
    async fn write_policy(&self, policy: &Value) -> Result<(), StorageError> {
        let text = policy.to_string();
        repeated(|| {
            within(CALL, self.bucket(), async {
                let mut query = Multimap::new();
                query.insert("policy".into(), String::new());
                let body = SegmentedBytes::from(text.clone());
                let mut request = S3Request::builder()
                    .client(self.client().clone())
                    .method(http::Method::PUT)
                    .bucket(BucketName::new(self.bucket())?)
                    .query_params(query)
                    .body(std::sync::Arc::new(body))
                    .build();
                request.execute().await
            })
        })
        .await
        .map(|_| ())
    }
}
