//! `POST /webhooks/minio/upload-complete`: MinIO's events, from the wire to a committed row.
//!
//! MinIO repeats an event for ever until it gets a 2xx, and keeps all later ones behind it. So whatever an authenticated
//! delivery holds is answered 200, after a commit: as a video or as a quarantined event. Only "cannot store now" is 503.
//! It also follows redirects, and turns the POST into a GET on the way; so nothing here ever redirects.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use pipeline::db::{Db, DbError};
use pipeline::intake::{self, Delivery};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Shared;
use super::metrics::{DELIVERIES, DeliveryEnd};
use super::problem::{Code, Problem};
use super::refusals;

/// What of a body is kept. MinIO sends one record of a few kilobytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// What of a body is read at all: an answer before the end would look like a failure to the sender.
const MAX_DRAINED_BYTES: usize = 16 * MAX_BODY_BYTES;
const BODY_DEADLINE: Duration = Duration::from_secs(15);

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource(["/webhooks/minio/upload-complete", "/webhooks/minio/upload-complete/"])
                .route(web::post().to(deliver))
                .route(web::head().to(reachable))
                .default_service(refusals::only("POST, HEAD")),
        )
        // Some servers of MinIO's family ask the origin whether anybody is there.
        .service(
            web::resource("/")
                .route(web::head().to(reachable))
                .default_service(web::to(refusals::not_found)),
        );
}

async fn reachable() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// The token is checked before a byte of the body is read: hence the raw payload and no extractor that buffers.
async fn deliver(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    if !shared.token.admits(request.headers()) {
        tracing::warn!(
            peer = request.peer_addr().map(tracing::field::display),
            "a webhook call without the right token was refused; if it was MinIO, its events wait until \
             MINIO_WEBHOOK_TOKEN is the same on both sides"
        );
        DELIVERIES[DeliveryEnd::Unauthorized].add(1);
        return Err(Problem::unauthorized());
    }
    let permit = Arc::clone(&shared.deliveries)
        .try_acquire_owned()
        .inspect_err(|_| DELIVERIES[DeliveryEnd::Busy].add(1))
        .map_err(|_| Problem::new(Code::Unavailable, "Too many deliveries at once."))?;
    let stored = store(&shared, &request, payload, permit).await;
    DELIVERIES[match &stored {
        Ok(Delivery::Accepted { .. }) => DeliveryEnd::Accepted,
        Ok(Delivery::Nothing) => DeliveryEnd::Nothing,
        Ok(Delivery::Quarantined { .. }) => DeliveryEnd::Quarantined,
        Err(_) => DeliveryEnd::Unavailable,
    }]
    .add(1);
    Ok(answer(&stored?))
}

/// From the body to the commit. The permit is held until the end of both.
async fn store(
    shared: &Shared,
    request: &HttpRequest,
    payload: web::Payload,
    permit: OwnedSemaphorePermit,
) -> Result<Delivery, Problem> {
    let body = read(request, payload).await?;
    let (db, bucket) = (shared.state.db.clone(), shared.state.storage.bucket().to_owned());
    let delivery = shared
        .run(async move {
            let _permit = permit;
            accept(&db, &bucket, &body).await
        })
        .await??;
    Ok(delivery)
}

/// A body, or the beginning of one that is too large.
struct Body {
    bytes: Vec<u8>,
    /// All that came, kept or not.
    size_bytes: usize,
}

async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Body, Problem> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = Body { bytes: Vec::with_capacity(announced.min(MAX_BODY_BYTES)), size_bytes: 0 };
    timeout(BODY_DEADLINE, fill(&mut body, payload))
        .await
        .map_err(|_| Problem::new(Code::Unavailable, "The body did not arrive in time."))??;
    Ok(body)
}

async fn fill(body: &mut Body, mut payload: web::Payload) -> Result<(), Problem> {
    while let Some(chunk) = payload.next().await {
        // A cut connection. Nobody hears the answer; it must only not be a 2xx.
        let chunk = chunk.map_err(|error| {
            Problem::new(Code::Unavailable, format!("The body broke off: {error}."))
        })?;
        body.size_bytes += chunk.len();
        let room = MAX_BODY_BYTES - body.bytes.len();
        body.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.size_bytes > MAX_DRAINED_BYTES {
            break;
        }
    }
    Ok(())
}

/// After `Ok` the delivery is committed, one way or the other.
async fn accept(db: &Db, bucket: &str, body: &Body) -> Result<Delivery, DbError> {
    if body.size_bytes <= MAX_BODY_BYTES {
        return intake::deliver(db, bucket, &body.bytes).await;
    }
    let reason = format!(
        "the body is larger than {MAX_BODY_BYTES} bytes ({} came); only its beginning was kept",
        body.size_bytes
    );
    let id = db.quarantine(&body.bytes, &reason).await?;
    tracing::warn!(event.id = id, reason, "event quarantined");
    Ok(Delivery::Quarantined { reason })
}

/// Small and with a length: MinIO reads an answer to its end, however long that takes.
fn answer(delivery: &Delivery) -> HttpResponse {
    HttpResponse::Ok().json(match delivery {
        Delivery::Accepted { created, known } => {
            json!({ "result": "accepted", "created": created, "known": known })
        }
        Delivery::Nothing => json!({ "result": "nothing" }),
        Delivery::Quarantined { .. } => json!({ "result": "quarantined" }),
    })
}
