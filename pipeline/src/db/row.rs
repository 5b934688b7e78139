//! From the texts and numbers of a row to the types of the domain. A value that no version of ours can have written is
//! an error that names table and column, never a panic.

use std::time::Duration;

use super::DbError;
use crate::stage::Stage;
use crate::video::VideoState;

pub(in crate::db) fn stage(text: &str) -> Result<Stage, DbError> {
    text.parse().map_err(|_| bad("jobs", "stage", text))
}

pub(in crate::db) fn video_state(text: &str) -> Result<VideoState, DbError> {
    VideoState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| bad("videos", "state", text))
}

pub(in crate::db) fn size(bytes: Option<i64>) -> Result<Option<u64>, DbError> {
    bytes
        .map(|bytes| u64::try_from(bytes).map_err(|_| bad("videos", "size_bytes", bytes)))
        .transpose()
}

pub(in crate::db) fn sha256(bytes: Option<Vec<u8>>) -> Result<Option<[u8; 32]>, DbError> {
    bytes
        .map(|bytes| {
            let length = bytes.len();
            <[u8; 32]>::try_from(bytes)
                .map_err(|_| bad("videos", "sha256", format_args!("{length} bytes long")))
        })
        .transpose()
}

fn bad(table: &'static str, column: &str, value: impl std::fmt::Display) -> DbError {
    DbError::BadRow { table, detail: format!("{column} is {value}") }
}

/// A size on its way into a row.
pub(in crate::db) fn to_bigint(bytes: u64) -> Result<i64, DbError> {
    i64::try_from(bytes)
        .map_err(|_| DbError::Statement(format!("{bytes} bytes do not fit into a bigint")))
}

/// A duration on its way into `make_interval(secs => …)`.
pub(in crate::db) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_names_its_table_and_column() {
        let error = video_state("archived").expect_err("no such state");
        assert_eq!(error.to_string(), "a row of videos makes no sense: state is archived");
        let error = stage("upload").expect_err("no such stage");
        assert_eq!(error.to_string(), "a row of jobs makes no sense: stage is upload");
    }

    #[test]
    fn every_state_is_read_back() {
        for state in VideoState::ALL {
            assert_eq!(video_state(state.as_str()).expect("known"), state);
        }
    }
}
