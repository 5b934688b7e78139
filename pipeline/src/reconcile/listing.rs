//! The listing of `raw-uploads/`, page by page against the rows. The cursor is kept, so that restarts do not keep a large
//! bucket from ever being seen to its end.

use super::{Found, Interrupted, Reconciler};
use crate::event::{CreatedObject, SOURCE_PREFIX, check_key};
use crate::storage::{ListedObject, ObjectInfo, StorageError};

const PAGE: u16 = 1_000;
/// Bounds a round; the next one goes on where this one stopped.
const PAGES_PER_ROUND: usize = 200;

impl Reconciler {
    pub(super) async fn find_in_listing(&self) -> Result<Vec<Found>, Interrupted> {
        let bucket = self.storage.bucket();
        let mut cursor = if self.dry_run {
            String::new()
        } else {
            self.db.reconcile_cursor(bucket, SOURCE_PREFIX).await?
        };
        let mut found = Vec::new();
        for _ in 0..PAGES_PER_ROUND {
            self.go_on()?;
            let page = self.storage.list(SOURCE_PREFIX, &cursor, PAGE).await?;
            let full = page.len() == usize::from(PAGE);
            let last = page.last().map(|object| object.key.clone());
            found.append(&mut self.find_in_page(page).await?);
            // Only after the page is committed: a crash above sees it again, and finds the rows.
            cursor = last.filter(|_| full).unwrap_or_default();
            if !self.dry_run {
                self.db.set_reconcile_cursor(bucket, SOURCE_PREFIX, &cursor).await?;
            }
            if !full {
                break;
            }
        }
        Ok(found)
    }

    async fn find_in_page(&self, page: Vec<ListedObject>) -> Result<Vec<Found>, Interrupted> {
        let candidates: Vec<CreatedObject> = page
            .into_iter()
            .filter(|listed| self.is_candidate(listed))
            .map(|listed| {
                let info = ObjectInfo {
                    size_bytes: listed.size_bytes,
                    etag: listed.etag,
                    version_id: listed.version_id,
                    content_type: None,
                    last_modified: listed.last_modified,
                };
                self.object(listed.key, info)
            })
            .filter(|object| {
                object
                    .check()
                    .inspect_err(|reason| {
                        tracing::warn!(object.key, reason, "an upload cannot become a video");
                    })
                    .is_ok()
            })
            .collect();
        let mut found = Vec::new();
        for listed in self.db.unknown_objects(&candidates).await? {
            self.go_on()?;
            if let Some(object) = self.confirm(listed).await? {
                found.extend(self.announce(&object).await?);
            }
        }
        Ok(found)
    }

    fn is_candidate(&self, listed: &ListedObject) -> bool {
        if listed.key.ends_with('/') || self.is_young(listed.last_modified) {
            return false;
        }
        check_key(&listed.key)
            .inspect_err(|reason| tracing::debug!(object.key = listed.key, reason, "passed over"))
            .is_ok()
    }

    /// HEAD knows what a listing does not: the version, which is part of the identity, and the content type.
    async fn confirm(&self, listed: CreatedObject) -> Result<Option<CreatedObject>, Interrupted> {
        match self.storage.head(&listed.key).await {
            Ok(info) => Ok(Some(self.object(listed.key, info))),
            // Gone since the listing.
            Err(StorageError::NotFound(_)) => Ok(None),
            // There and not readable. It becomes a video all the same, which then fails for all to see.
            Err(StorageError::Refused(_)) => Ok(Some(listed)),
            Err(error) => Err(error.into()),
        }
    }
}
