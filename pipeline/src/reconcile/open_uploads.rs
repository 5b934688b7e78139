//! Announced uploads whose object has not been heard of: asked for one by one, and expired when their URL is long over.

use std::time::Duration;

use super::{Answer, Interrupted, Reconciler, Round};

/// How many announced uploads a round asks for. The listing finds the others.
const OPEN_UPLOADS: usize = 1_000;

/// How long after its URL an announced upload is given up: a slow PUT may end long after it began.
const UNUSED_GRACE: Duration = Duration::from_mins(15);

impl Reconciler {
    pub(super) async fn find_open_uploads(&self, round: &mut Round) -> Result<(), Interrupted> {
        for (video, key) in self.db.uploading_videos(OPEN_UPLOADS).await? {
            self.go_on()?;
            match self.ask(&key, round).await? {
                Answer::There(info) if self.is_young(info.last_modified) => {}
                Answer::There(info) => self.announce(&self.object(key, info), round).await?,
                Answer::Gone | Answer::Silence => {}
                // The listing announces it, and duplicate detection says what is wrong with it.
                Answer::Unreadable(reason) => {
                    tracing::debug!(video.id = %video, reason, "announced object cannot be read");
                }
            }
        }
        Ok(())
    }

    /// An upload that comes after all revives its row.
    pub(super) async fn expire_unused(&self) -> Result<(), Interrupted> {
        let expired = self.db.expire_uploads(UNUSED_GRACE).await?;
        if expired > 0 {
            tracing::info!(uploads = expired, "upload URLs were never used: expired");
        }
        Ok(())
    }
}
