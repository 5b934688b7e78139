//! Every error of the HTTP surface as RFC 9457 `application/problem+json`, from a closed list of codes.
//! Never puts into an answer what only the log may say: statements, hosts, keys.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use pipeline::db::DbError;
use serde::Serialize;
use uuid::Uuid;

/// The kinds of problems. The name is the `code` of the answer and the last part of its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    Internal,
    Unavailable,
}

impl Code {
    pub(super) const ALL: [Code; 9] = [
        Code::InvalidRequest,
        Code::Unauthorized,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::PayloadTooLarge,
        Code::UnsupportedMediaType,
        Code::ValidationFailed,
        Code::Internal,
        Code::Unavailable,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::Unauthorized => "unauthorized",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::PayloadTooLarge => "payload_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::ValidationFailed => "validation_failed",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::ValidationFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Code::InvalidRequest => "The request cannot be read",
            Code::Unauthorized => "No valid credentials",
            Code::NotFound => "Nothing is here",
            Code::MethodNotAllowed => "The resource does not take this method",
            Code::PayloadTooLarge => "The body is too large",
            Code::UnsupportedMediaType => "The body is of another type",
            Code::ValidationFailed => "Some values are not acceptable",
            Code::Internal => "A defect of the server",
            Code::Unavailable => "Something the server needs is away",
        }
    }

    /// What to do about it: the page behind `type`.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Code::InvalidRequest => "Mend the JSON or the query as `detail` says.",
            Code::Unauthorized => {
                "Send `Authorization: Bearer cs_…`. An operator makes keys with `clipstream token create`."
            }
            Code::NotFound => {
                "Check the path and the id. A video of another owner looks the same as none."
            }
            Code::MethodNotAllowed => "The header `Allow` names the methods.",
            Code::PayloadTooLarge => {
                "A JSON body has at most 64 KiB. Clips go to the presigned URL."
            }
            Code::UnsupportedMediaType => "Send `Content-Type: application/json`.",
            Code::ValidationFailed => {
                "Each of `errors` names a value by JSON pointer and its rule."
            }
            Code::Internal => "Report `instance`: the server's log has the same id.",
            Code::Unavailable => "Nothing was changed. Try again after `Retry-After` seconds.",
        }
    }
}

/// A value that breaks its rule.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(super) struct Violation {
    /// JSON pointer into the body.
    pub(super) pointer: &'static str,
    pub(super) detail: String,
}

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct Problem {
    code: Code,
    detail: String,
    violations: Vec<Violation>,
    /// The methods that the resource takes, with [`Code::MethodNotAllowed`].
    allow: Option<&'static str>,
    /// Ties an answer to the line in the log.
    instance: Option<Uuid>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), violations: Vec::new(), allow: None, instance: None }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(Code::Unauthorized, "Send `Authorization: Bearer` with a valid key.")
    }

    pub(super) fn no_such_video() -> Self {
        Self::new(Code::NotFound, "You have no video with this id.")
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("This resource takes {allow}.");
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    pub(super) fn violations(violations: Vec<Violation>) -> Self {
        let detail = violations
            .iter()
            .map(|violation| format!("{}: {}", violation.pointer, violation.detail))
            .collect::<Vec<_>>()
            .join(" ");
        Self { violations, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// A defect of ours: the log gets the words, the client an id to quote.
    pub(super) fn internal(error: &dyn fmt::Display) -> Self {
        let instance = Uuid::now_v7();
        tracing::error!(%instance, %error, "a request failed through a defect of the server");
        Self {
            instance: Some(instance),
            ..Self::new(Code::Internal, "The server failed; its log has the reason under this id.")
        }
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(reason) => {
                tracing::warn!(%reason, "a request was refused: Postgres is not available");
                Problem::new(Code::Unavailable, "The database is not available at the moment.")
            }
            DbError::Unusable(reason) => {
                tracing::error!(%reason, "a request was refused: Postgres cannot be used; see `clipstream doctor`");
                Problem::new(Code::Unavailable, "The database cannot be used at the moment.")
            }
            error @ (DbError::LeaseLost
            | DbError::Constraint(_)
            | DbError::BadRow { .. }
            | DbError::Statement(_)) => Problem::internal(&error),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'static str,
            status: u16,
            code: &'static str,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            instance: Option<String>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [Violation],
        }
        let mut response = HttpResponse::build(self.status_code());
        match self.code {
            Code::Unauthorized => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Code::Unavailable => {
                response.insert_header((header::RETRY_AFTER, "2"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, allow));
        }
        let mut response = response.json(Body {
            r#type: format!("/problems/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.status_code().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            instance: self.instance.map(|id| id.urn().to_string()),
            errors: &self.violations,
        });
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_json_of_the_right_type_with_its_status_and_code() {
        for code in Code::ALL {
            let response = Problem::new(code, "why").error_response();
            assert_eq!(response.status(), code.status());
            assert_eq!(
                response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
                Some(b"application/problem+json".as_slice())
            );
            assert!(!code.advice().is_empty() && code.status().as_u16() >= 400);
        }
    }

    #[test]
    fn an_internal_problem_says_nothing_of_its_reason() {
        let problem = Problem::from(DbError::Statement("secret statement".into()));
        assert!(!problem.to_string().contains("secret"));
        assert!(problem.instance.is_some());
    }
}
