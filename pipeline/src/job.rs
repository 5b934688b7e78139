//! A job: one (video, stage) to be done, and the right of a worker to do it.
//! Pure: claims, leases and commits are statements in `db`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::stage::Stage;
use crate::video::{OwnerId, VideoId, id};

id!(
    /// Names a job; the only thing that is ever put on a Redis list.
    JobId
);
id!(
    /// One start of one worker process. Never reused, so that an orphaned lease or list is known to be one.
    WorkerId
);

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Running,
    Done,
    Dead,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 5] =
        [JobState::Pending, JobState::Running, JobState::Done, JobState::Dead, JobState::Cancelled];

    /// The name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Pending => "pending",
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Dead => "dead",
            JobState::Cancelled => "cancelled",
        }
    }
}

/// A claimed job: proof that this worker may act, as long as the row still names this attempt.
/// Every write that it leads to carries `(id, attempt, worker)` and changes nothing once they are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub job: JobId,
    pub video: VideoId,
    pub owner: OwnerId,
    pub stage: Stage,
    /// The fencing token.
    pub attempt: i32,
    pub worker: WorkerId,
}

impl Lease {
    /// For statements: the three values that guard every write.
    #[must_use]
    pub fn guard(&self) -> (Uuid, i32, Uuid) {
        (self.job.0, self.attempt, self.worker.0)
    }
}
