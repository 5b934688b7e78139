//! What is refused before a handler runs: unknown paths, other methods, bodies, paths and queries that do not parse.
//! Without these, the framework would answer in plain text or with nothing.

use actix_web::error::JsonPayloadError;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};

use super::problem::{Code, Problem};

/// A JSON body is an announcement, never a clip.
const MAX_JSON_BYTES: usize = 64 * 1024;

/// For paths that no route knows.
pub(super) async fn not_found(request: HttpRequest) -> HttpResponse {
    Problem::new(Code::NotFound, format!("There is no resource at {}.", request.path()))
        .error_response()
}

/// For resources that know the path and not the method.
pub(super) fn only(allow: &'static str) -> actix_web::Route {
    web::to(move || async move { Problem::method_not_allowed(allow).error_response() })
}

/// `GET /problems/{code}`: where the `type` of an answer leads.
pub(super) async fn page(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let code = Code::ALL
        .into_iter()
        .find(|known| known.as_str() == *code)
        .ok_or_else(|| Problem::new(Code::NotFound, "There is no such problem."))?;
    let text = format!("{} ({})\n\n{}\n", code.title(), code.status(), code.advice());
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}

pub(super) fn json_config() -> web::JsonConfig {
    web::JsonConfig::default().limit(MAX_JSON_BYTES).error_handler(|error, _| json(&error).into())
}

pub(super) fn path_config() -> web::PathConfig {
    // What is no id names no video.
    web::PathConfig::default().error_handler(|_, _| Problem::no_such_video().into())
}

pub(super) fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _| {
        Problem::new(Code::InvalidRequest, format!("The query is not usable: {error}.")).into()
    })
}

fn json(error: &JsonPayloadError) -> Problem {
    use JsonPayloadError as E;
    match error {
        E::OverflowKnownLength { .. } | E::Overflow { .. } => {
            Problem::new(Code::PayloadTooLarge, "A JSON body has at most 64 KiB.")
        }
        E::ContentType => {
            Problem::new(Code::UnsupportedMediaType, "Send `Content-Type: application/json`.")
        }
        E::Deserialize(error) if error.is_data() => {
            Problem::new(Code::ValidationFailed, format!("The body does not fit: {error}."))
        }
        E::Deserialize(error) => {
            Problem::new(Code::InvalidRequest, format!("The body is not JSON: {error}."))
        }
        error => Problem::new(Code::InvalidRequest, format!("The body cannot be read: {error}.")),
    }
}
