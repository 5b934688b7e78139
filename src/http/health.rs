//! Whether the process is alive, and whether work should be sent to it. Two questions: a restart does not mend Postgres,
//! so `/livez` asks nobody.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::readiness::Report;

/// `GET /livez`: 200 as long as requests are answered at all.
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// `GET /readyz`: 503 without Postgres, and from the moment a stop begins. Without Redis, MinIO or room on scratch
/// 200, and `degraded` says which: uploads are still taken in, and work goes on by itself once they are back.
pub(super) async fn readyz(shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    let readiness = shared.state.readiness.clone();
    let report = shared.run(Box::pin(async move { readiness.report().await })).await?;
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(document(&report)))
}

fn document(report: &Report) -> Value {
    let missing: Vec<&str> =
        report.checks().filter(|check| !check.works).map(|check| check.name).collect();
    let status = match report {
        Report { draining: true, .. } => "draining",
        report if !report.postgres.works => "unavailable",
        _ if missing.is_empty() => "ready",
        _ => "degraded",
    };
    let checks = report.checks().map(|check| {
        let ms = u64::try_from(check.took.as_millis()).unwrap_or(u64::MAX);
        (check.name.to_owned(), json!({ "works": check.works, "took_ms": ms }))
    });
    json!({
        "status": status,
        "degraded": missing,
        "checks": Value::Object(checks.collect()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::readiness::Check;

    fn report(draining: bool, works: [bool; 3], full: bool) -> Report {
        let check = |name, works| Check { name, works, took: Duration::ZERO };
        Report {
            draining,
            postgres: check("postgres", works[0]),
            redis: check("redis", works[1]),
            minio: check("minio", works[2]),
            scratch: full.then(|| check("scratch", false)),
            space: None,
        }
    }

    #[test]
    fn only_postgres_and_a_stop_make_it_unready() {
        for (draining, works, ready, status) in [
            (false, [true, true, true], true, "ready"),
            (false, [true, false, true], true, "degraded"),
            (false, [true, false, false], true, "degraded"),
            (false, [false, true, true], false, "unavailable"),
            (true, [true, true, true], false, "draining"),
        ] {
            let report = report(draining, works, false);
            assert_eq!(report.ready(), ready, "{works:?}");
            assert_eq!(document(&report)["status"], status);
        }
        let degraded = document(&report(false, [true, false, true], true));
        assert_eq!(degraded["degraded"], json!(["redis", "scratch"]));
        assert_eq!(degraded["checks"]["minio"]["works"], true);
    }
}
