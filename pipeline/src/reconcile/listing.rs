//! The listing of `raw-uploads/`, page by page against the rows. The daemon keeps its cursor, so that restarts do not keep
//! a large bucket from ever being seen to its end.

use super::{Answer, Interrupted, Reconciler, Round};
use crate::event::{CreatedObject, SOURCE_PREFIX, check_key};
use crate::storage::{ListedObject, ObjectInfo};

impl Reconciler {
    pub(super) async fn find_in_listing(&self, round: &mut Round) -> Result<(), Interrupted> {
        let (bucket, page_size) = (self.storage.bucket(), self.config.page);
        let (mut cursor, pages) = if self.whole {
            (String::new(), usize::MAX)
        } else {
            let cursor = self.db.reconcile_cursor(bucket, SOURCE_PREFIX).await?;
            (cursor, self.config.pages_per_round)
        };
        for _ in 0..pages {
            self.go_on()?;
            let page = self.storage.list(SOURCE_PREFIX, &cursor, page_size).await?;
            let full = page.len() == usize::from(page_size);
            let last = page.last().map(|object| object.key.clone());
            self.find_in_page(page, round).await?;
            // Only after the page is committed: a crash above sees it again, and finds the rows.
            cursor = last.filter(|_| full).unwrap_or_default();
            if !self.whole {
                self.db.set_reconcile_cursor(bucket, SOURCE_PREFIX, &cursor).await?;
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    async fn find_in_page(
        &self,
        page: Vec<ListedObject>,
        round: &mut Round,
    ) -> Result<(), Interrupted> {
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
        for listed in self.db.unknown_objects(&candidates).await? {
            self.go_on()?;
            if let Some(object) = self.confirm(listed, round).await? {
                self.announce(&object, round).await?;
            }
        }
        Ok(())
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
    async fn confirm(
        &self,
        listed: CreatedObject,
        round: &mut Round,
    ) -> Result<Option<CreatedObject>, Interrupted> {
        Ok(match self.ask(&listed.key, round).await? {
            Answer::There(info) => Some(self.object(listed.key, info)),
            // Gone since the listing, or to be asked for by the next.
            Answer::Gone | Answer::Silence => None,
            // It becomes a video all the same, which then fails for all to see.
            Answer::Unreadable(_) => Some(listed),
        })
    }
}
