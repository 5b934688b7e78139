//! What an error of a door means for the job: dead, another try, or nobody's fault.
//! Who asks decides which: the same 404 is final for a source and an accident for an object of ours.

use std::io;
use std::time::Duration;

use super::StageError;
use super::source::{Lack, NoRoom};
use crate::media::{InputError, MediaError};
use crate::metrics::{self, ChildEnd};
use crate::storage::StorageError;
use crate::video::FailureCause;

impl StageError {
    /// The source could not be had.
    pub(super) fn of_source(error: StorageError) -> Self {
        source_failed(error).into()
    }

    /// An object of ours could not be written or read. A refusal counts, so that it does not repeat for ever.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub(super) fn of_storage(error: StorageError) -> Self {
        match error {
            StorageError::NotFound(_)
            | StorageError::PreconditionFailed(_)
            | StorageError::Refused(_) => {
                Self::Retry { cause: FailureCause::Dependency, detail: error.to_string() }
            }
            StorageError::Denied(_)
            | StorageError::Unavailable(_)
            | StorageError::Io(_)
            | StorageError::Config(_) => Self::Outage(error.to_string()),
        }
    }

    /// A defect of ours, seen instead of assumed away.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::Retry { cause: FailureCause::Internal, detail: detail.into() }
    }
}

/// The source could not be read. Another try sees the same object, so only outages are worth one.
pub(super) fn source_failed(error: StorageError) -> InputError {
    match error {
        StorageError::NotFound(_) | StorageError::PreconditionFailed(_) => InputError::Lost {
            cause: FailureCause::SourceMissing,
            // The same bytes under the same key would be taken for this video, which has failed.
            detail: "the uploaded object is gone or was overwritten; upload it again under a new key or URL".into(),
        },
        StorageError::Refused(detail) => InputError::Lost {
            cause: FailureCause::SourceUnreadable,
            detail: format!("the uploaded object is listed and cannot be read: {detail}"),
        },
        StorageError::Denied(_)
        | StorageError::Unavailable(_)
        | StorageError::Io(_)
        | StorageError::Config(_) => InputError::Away(error.to_string()),
    }
}

/// Storage has something else under the same key and tag.
pub(super) fn overwritten() -> InputError {
    InputError::Lost {
        cause: FailureCause::SourceMissing,
        detail:
            "the uploaded object was overwritten after it was accepted; upload it again under a new key or URL"
                .into(),
    }
}

/// The disk is full or broken: no fault of the source.
pub(super) fn scratch_failed(error: &io::Error) -> InputError {
    InputError::Away(format!("scratch could not be used: {error}"))
}

impl From<MediaError> for StageError {
    fn from(error: MediaError) -> Self {
        count(&error);
        match error {
            // A defect of ours or a moment of the machine's, in any case no verdict about the file.
            MediaError::Failed { cause: FailureCause::Internal, detail } => Self::internal(detail),
            MediaError::Failed { cause, detail } => Self::Fail { cause, detail },
            MediaError::Crashed(detail) => Self::Crashed(detail),
            MediaError::Killed(_) => Self::Killed(error.to_string()),
            // Both can be the machine's fault, too busy for hours of work or for a short check at its end: tried again,
            // and each try counts.
            MediaError::DeadlineExceeded(deadline) => Self::Retry {
                cause: FailureCause::DeadlineExceeded,
                detail: format!("it was not done after {}", spoken(deadline)),
            },
            MediaError::Stalled(silence) => Self::Retry {
                cause: FailureCause::DeadlineExceeded,
                detail: format!("the media child made no progress for {}", spoken(silence)),
            },
            MediaError::Input(error) => error.into(),
            // The machine's fault: the file was not read.
            MediaError::Uncaged(_) | MediaError::Io(_) => Self::Outage(error.to_string()),
        }
    }
}

impl From<InputError> for StageError {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Lost { cause, detail } => Self::Fail { cause, detail },
            InputError::Away(detail) => Self::Outage(detail),
        }
    }
}

impl From<NoRoom> for StageError {
    fn from(refusal: NoRoom) -> Self {
        match refusal.lack {
            Lack::Ours => Self::NoRoom { detail: refusal.to_string(), ours_first: true },
            Lack::Others => Self::NoRoom { detail: refusal.to_string(), ours_first: false },
            // The operator's disk and not the file is at fault, and the cause says so. Counted, so that it ends; not dead
            // at once, for another worker may have a larger one.
            Lack::Never => Self::Retry {
                cause: FailureCause::ScratchTooSmall,
                detail: format!("{refusal}: give workers a larger CLIPSTREAM_SCRATCH"),
            },
        }
    }
}

fn count(error: &MediaError) {
    let end = match error {
        // It ended by itself, and well: the file is at fault, or whoever has the file.
        MediaError::Failed { .. } | MediaError::Input(_) => return,
        MediaError::Crashed(_) => ChildEnd::Crashed,
        MediaError::Killed(_) => ChildEnd::Killed,
        MediaError::DeadlineExceeded(_) => ChildEnd::Deadline,
        MediaError::Stalled(_) => ChildEnd::Stalled,
        MediaError::Uncaged(_) | MediaError::Io(_) => ChildEnd::Broken,
    };
    metrics::CHILD_ENDS[end].add(1);
}

fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_gone_or_unreadable_is_final_and_an_outage_is_nobodys_fault() {
        let cause = |error| match StageError::of_source(error) {
            StageError::Fail { cause, .. } => Some(cause),
            StageError::Outage(_) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(StorageError::NotFound("x".into())), Some(FailureCause::SourceMissing));
        assert_eq!(
            cause(StorageError::PreconditionFailed("x".into())),
            Some(FailureCause::SourceMissing)
        );
        assert_eq!(cause(StorageError::Refused("x".into())), Some(FailureCause::SourceUnreadable));
        assert_eq!(cause(StorageError::Unavailable("x".into())), None);
        assert_eq!(cause(StorageError::Denied("x".into())), None, "a key that was changed");
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(cause(StorageError::Io(full)), None);
    }

    #[test]
    fn an_object_of_ours_is_never_a_reason_to_give_up_at_once() {
        let error = StorageError::NotFound("segment".into());
        assert!(matches!(StageError::of_storage(error), StageError::Retry { .. }));
    }

    #[test]
    fn a_refusal_of_the_child_is_final_a_death_is_a_strike_a_deadline_counts() {
        let refusal = MediaError::Failed { cause: FailureCause::Corrupt, detail: "no".into() };
        assert!(matches!(
            StageError::from(refusal),
            StageError::Fail { cause: FailureCause::Corrupt, .. }
        ));
        let defect = MediaError::Failed { cause: FailureCause::Internal, detail: "a panic".into() };
        assert!(matches!(StageError::from(defect), StageError::Retry { .. }));
        assert!(matches!(
            StageError::from(MediaError::Crashed("SIGSEGV".into())),
            StageError::Crashed(_)
        ));
        assert!(matches!(
            StageError::from(MediaError::DeadlineExceeded(Duration::from_hours(1))),
            StageError::Retry { cause: FailureCause::DeadlineExceeded, detail }
                if detail == "it was not done after 60 min"
        ));
    }
}
