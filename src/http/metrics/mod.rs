//! `GET /metrics` for Prometheus, on a listener of its own: loopback unless the operator says otherwise, since it tells
//! everybody who asks how much is done and how well.

mod cached;
mod figures;
mod render;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header;
use actix_web::{App, HttpResponse, HttpServer, web};
use pipeline::db::Db;
use pipeline::storage::Storage;
use tokio::runtime::Handle;

use super::refusals;
use crate::readiness::Readiness;
use figures::Figures;

pub(super) use render::{DELIVERIES, DeliveryEnd};

/// What is asked at a scrape.
#[derive(Clone)]
pub struct MetricsState {
    pub db: Db,
    pub storage: Storage,
    pub readiness: Arc<Readiness>,
    /// The layers of the media child's cage and whether they hold, where this process is a worker.
    pub sandbox: Vec<(&'static str, bool)>,
}

struct Shared {
    figures: Arc<Figures>,
    runtime: Handle,
}

/// The server on a bound listener, as [`super::server`].
pub fn metrics_server(listener: TcpListener, state: MetricsState) -> std::io::Result<Server> {
    let shared = web::Data::new(Shared {
        figures: Arc::new(Figures::new(state)),
        runtime: Handle::try_current().map_err(std::io::Error::other)?,
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .service(
                web::resource("/metrics")
                    .route(web::get().to(metrics))
                    .default_service(refusals::only("GET")),
            )
            .default_service(web::to(refusals::not_found))
    });
    Ok(server
        .workers(1)
        .client_request_timeout(Duration::from_secs(5))
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let figures = Arc::clone(&shared.figures);
    // On the daemon's runtime, whose connections it uses; a scraper that hangs up cuts nothing.
    let gathered = shared.runtime.spawn(async move { Box::pin(figures.gather()).await }).await;
    match gathered.map_err(|_| std::fmt::Error).and_then(render::text) {
        Ok(text) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, render::CONTENT_TYPE))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(text),
        Err(error) => {
            tracing::error!(%error, "the figures could not be gathered");
            HttpResponse::InternalServerError().finish()
        }
    }
}
