//! Whether the process is alive. Never asks a dependency: a restart does not mend Postgres.

use actix_web::HttpResponse;
use actix_web::http::header;

/// `GET /livez`: 200 as long as requests are answered at all.
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}
