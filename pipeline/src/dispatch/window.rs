//! Dispatch: from due rows to a bounded window of ids in Redis. The backlog stays in Postgres, where it is indexed and
//! fair; Redis holds what workers will take in the next moments.

use std::time::Duration;

use super::{Dispatcher, Held};
use crate::stage::Stage;

impl Dispatcher {
    /// One round over all stages.
    pub(super) async fn fill(&self) -> Result<(), Held> {
        if self.queue.was_emptied().await? {
            // Every id that we believe to be there is gone. Should this fail, the next diff finds them seconds later.
            tracing::info!("Redis holds nothing of ours: filling it from Postgres");
            self.diff(Duration::ZERO).await?;
        }
        let lengths = self.queue.lengths().await?;
        for (stage, waiting) in Stage::ALL.into_iter().zip(lengths) {
            let room = self.config.window.saturating_sub(waiting);
            if room > 0 {
                self.fill_stage(stage, room).await?;
            }
        }
        Ok(())
    }

    async fn fill_stage(&self, stage: Stage, room: usize) -> Result<(), Held> {
        let ids = self.db.due(stage, room).await?;
        if ids.is_empty() {
            return Ok(());
        }
        // A crash here leaves rows that are marked and not in Redis: diff finds them.
        match self.queue.push(stage, self.config.window, &ids).await {
            Ok(taken) => {
                tracing::debug!(%stage, jobs = taken, "dispatched");
                // Another process filled the window meanwhile.
                if taken < ids.len() {
                    self.db.undispatch(&ids[taken..]).await?;
                }
                Ok(())
            }
            Err(error) => {
                // Some may be in. They are then pushed twice, and the second claim matches no row.
                self.db.undispatch(&ids).await?;
                Err(error.into())
            }
        }
    }
}
