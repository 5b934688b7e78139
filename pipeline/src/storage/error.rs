//! Why storage did not do what was asked, and the one place where the crate's errors are sorted into it.
//! The texts hold what MinIO said and no URL: a presigned one would be a secret.

use std::error::Error as StdError;

use minio::s3::error::{Error, NetworkError, S3ServerError, ValidationErr};
use minio::s3::minio_error_response::MinioErrorCode;

/// Why storage did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("no such object: {0}")]
    NotFound(String),
    #[error("the object changed: a precondition failed for {0}")]
    PreconditionFailed(String),
    #[error("MinIO refused: {0}")]
    Refused(String),
    /// Key, clock, policy or bucket: whatever is asked is refused until an operator acts. No fault of the work.
    #[error("MinIO does not let us in: {0}")]
    Denied(String),
    /// Reachability, time-outs, 5xx: worth another try, no fault of the work.
    #[error("MinIO is not available: {0}")]
    Unavailable(String),
    #[error("a file of ours could not be written or read: {0}")]
    Io(#[from] std::io::Error),
    #[error("the settings for MinIO are not usable: {0}")]
    Config(String),
}

/// Sorts an error of the crate. `what` names the object or the bucket, for people.
pub(super) fn classify(error: Error, what: &str) -> StorageError {
    match error {
        Error::S3Server(S3ServerError::S3Error(response)) => {
            let message = response.message().clone().unwrap_or_default();
            by_code(&response.code(), &message, what)
        }
        Error::S3Server(
            S3ServerError::InvalidServerResponse { http_status_code: status, .. }
            | S3ServerError::HttpError(status, _),
        )
        | Error::Network(NetworkError::ServerError(status)) => by_status(status, what),
        Error::Network(NetworkError::ReqwestError(error))
        | Error::Validation(ValidationErr::HttpError(error)) => {
            StorageError::Unavailable(chain(&error.without_url()))
        }
        Error::DriveIo(error) => StorageError::Refused(format!("{what}: {}", chain(&error))),
        Error::Validation(ValidationErr::XmlParseError(_)) => StorageError::Refused(format!(
            "{what}: the answer is not that of an S3 server. Is MINIO_ENDPOINT the API port, not the console's?"
        )),
        Error::Validation(error) => StorageError::Refused(format!("{what}: {}", chain(&error))),
    }
}

/// The server's own word for the error, lower-cased as the crate gives the less common ones.
pub(super) fn code(error: &Error) -> Option<String> {
    match error {
        Error::S3Server(S3ServerError::S3Error(response)) => {
            Some(response.code().to_string().to_lowercase())
        }
        Error::S3Server(_) | Error::DriveIo(_) | Error::Network(_) | Error::Validation(_) => None,
    }
}

pub(super) fn no_such_bucket(what: &str) -> StorageError {
    StorageError::Denied(format!(
        "{what}: no such bucket. Check MINIO_BUCKET, or make it: clipstream setup minio"
    ))
}

fn by_code(code: &MinioErrorCode, message: &str, what: &str) -> StorageError {
    let code = code.to_string();
    match code.to_lowercase().as_str() {
        "nosuchkey" | "nosuchversion" | "resourcenotfound" => {
            StorageError::NotFound(what.to_owned())
        }
        // We ask for parts of an object whose size we know: where there is nothing, it is another object.
        "preconditionfailed" | "invalidrange" => StorageError::PreconditionFailed(what.to_owned()),
        // Busy, starting, losing drives, full: all of them end without our doing. Full disks too, or a person acts.
        "slowdown"
        | "slowdownread"
        | "slowdownwrite"
        | "internalerror"
        | "serviceunavailable"
        | "servernotinitialized"
        | "xminioservernotinitialized"
        | "requesttimeout"
        | "operationaborted"
        | "operationtimedout"
        | "conditionalrequestconflict"
        | "resourceconflict"
        | "xminiostoragefull"
        | "incompletebody"
        | "busy" => StorageError::Unavailable(format!("{what}: {code} {message}")),
        "nosuchbucket" => no_such_bucket(what),
        "invalidaccesskeyid" | "signaturedoesnotmatch" => StorageError::Denied(format!(
            "{what}: {code}. Check MINIO_ACCESS_KEY, MINIO_SECRET_KEY and MINIO_REGION"
        )),
        "accessdenied" => StorageError::Denied(format!(
            "{what}: access denied. MINIO_ACCESS_KEY or MINIO_SECRET_KEY is wrong, or the policy of the key does not \
             allow this; see minio-setup/README.md"
        )),
        // What the crate makes of a 400 without a body.
        "badrequest" => StorageError::Refused(format!(
            "{what}: a bad request, and no reason given. Is MINIO_ENDPOINT the API port, not the console's?"
        )),
        "requesttimetooskewed" => StorageError::Denied(format!(
            "{what}: the clocks of MinIO and of this machine differ by more than 15 minutes"
        )),
        _ => StorageError::Refused(format!("{what}: {code} {message}")),
    }
}

fn by_status(status: u16, what: &str) -> StorageError {
    match status {
        404 => StorageError::NotFound(what.to_owned()),
        304 | 412 | 416 => StorageError::PreconditionFailed(what.to_owned()),
        401 | 403 => StorageError::Denied(format!("{what}: HTTP status {status}")),
        408 | 429 | 500.. => StorageError::Unavailable(format!("{what}: HTTP status {status}")),
        _ => StorageError::Refused(format!("{what}: HTTP status {status}")),
    }
}

/// An error with its causes: the crate's own texts stop at "error sending request".
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: &str) -> StorageError {
        let code = code.parse().expect("every word is a code");
        by_code(&code, "", "clipstream/x")
    }

    #[test]
    fn the_crates_two_spellings_of_a_code_are_sorted_alike() {
        assert!(matches!(answered("NoSuchKey"), StorageError::NotFound(_)));
        assert!(matches!(answered("PreconditionFailed"), StorageError::PreconditionFailed(_)));
        assert!(matches!(answered("preconditionfailed"), StorageError::PreconditionFailed(_)));
        assert!(matches!(answered("SlowDown"), StorageError::Unavailable(_)));
        assert!(matches!(answered("XMinioServerNotInitialized"), StorageError::Unavailable(_)));
        assert!(matches!(answered("InvalidRequest"), StorageError::Refused(_)));
    }

    #[test]
    fn an_answer_without_a_body_is_sorted_by_its_status() {
        assert!(matches!(by_status(412, "x"), StorageError::PreconditionFailed(_)));
        assert!(matches!(by_status(503, "x"), StorageError::Unavailable(_)));
        assert!(matches!(by_status(404, "x"), StorageError::NotFound(_)));
        assert!(matches!(by_status(403, "x"), StorageError::Denied(_)));
        assert!(matches!(by_status(400, "x"), StorageError::Refused(_)));
    }

    #[test]
    fn a_refused_key_says_which_settings_to_check() {
        for code in ["AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed", "NoSuchBucket"] {
            assert!(matches!(answered(code), StorageError::Denied(_)), "{code}");
        }
        let text = answered("SignatureDoesNotMatch").to_string();
        assert!(text.contains("MINIO_SECRET_KEY"), "{text}");
    }
}
