//! Dispatch: from due rows to a bounded window of ids in Redis. The backlog stays in Postgres, where it is indexed and
//! fair; Redis holds what workers will take in the next moments.

use std::time::Duration;

use futures_util::future::join_all;

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
        // Not before half of it is gone: each statement then finds many to mark.
        let low = Stage::ALL.into_iter().zip(lengths).filter(|(_, n)| *n <= self.config.window / 2);
        // At once, so that their writes to disk are one.
        let fills =
            low.map(|(stage, waiting)| self.fill_stage(stage, self.config.window - waiting));
        for filled in join_all(fills).await {
            filled?;
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
