//! The HTTP surface: the webhook, `/v1`, whether the process lives and is ready; and, elsewhere, its figures.
//!
//! Handlers are short: they check, make one call into the pipeline, and answer. Whatever touches Postgres runs on the
//! daemon's own runtime (`Shared::run`), so that a client who hangs up cannot cut a statement in half, and a pooled
//! connection does not depend on the event loop of an HTTP worker.

mod auth;
mod health;
mod metrics;
mod problem;
mod refusals;
mod uploads;
mod videos;
mod view;
mod webhook;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::{App, HttpServer, web};
use pipeline::db::Db;
use pipeline::storage::Storage;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use auth::Token;
use problem::Problem;

pub use metrics::{MetricsState, metrics_server};

use crate::readiness::Readiness;

/// Deliveries that may be on their way to Postgres at once; MinIO comes back with the rest.
const MAX_DELIVERIES: usize = 64;

/// What the server needs, and which of its halves are served.
#[derive(Clone)]
pub struct State {
    pub db: Db,
    pub storage: Storage,
    pub readiness: Arc<Readiness>,
    /// The shared bearer token of MinIO's webhook targets.
    pub webhook_token: String,
    /// Largest upload that is announced.
    pub max_size_bytes: u64,
    /// Serve `/v1`.
    pub api: bool,
    /// Serve `/webhooks`.
    pub webhook: bool,
}

/// What all workers of the server share.
struct Shared {
    state: State,
    token: Token,
    deliveries: Arc<Semaphore>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Shared {
    /// Runs work on the daemon's runtime, to its end, also when the request is dropped meanwhile.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let task = self.tasks.spawn_on(work, &self.runtime);
        task.await.map_err(|error| Problem::internal(&error))
    }
}

/// The server on a bound listener; await it to run it, stop it by its handle. Installs no signal handlers.
/// Must be called inside the runtime that outlives it.
pub fn server(listener: TcpListener, state: State) -> std::io::Result<Server> {
    let shared = web::Data::new(Shared {
        token: Token::new(&state.webhook_token),
        deliveries: Arc::new(Semaphore::new(MAX_DELIVERIES)),
        tasks: TaskTracker::new(),
        runtime: Handle::try_current().map_err(std::io::Error::other)?,
        state,
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(DefaultHeaders::new().add((header::X_CONTENT_TYPE_OPTIONS, "nosniff")))
            .wrap(from_fn(log))
            .configure(|config| routes(config, &shared.state))
            .default_service(web::to(refusals::not_found))
    });
    Ok(server
        .workers(2)
        // Longer than the 15 s for which MinIO keeps an idle connection: else it sends an event into a closing one.
        .keep_alive(Duration::from_secs(75))
        .client_request_timeout(Duration::from_secs(5))
        .max_connections(4_096)
        .disable_signals()
        .listen(listener)?
        .run())
}

fn routes(config: &mut web::ServiceConfig, state: &State) {
    config
        .service(
            web::resource("/livez")
                .route(web::get().to(health::livez))
                .route(web::head().to(health::livez))
                .default_service(refusals::only("GET, HEAD")),
        )
        .service(
            web::resource("/readyz")
                .route(web::get().to(health::readyz))
                .route(web::head().to(health::readyz))
                .default_service(refusals::only("GET, HEAD")),
        )
        .service(
            web::resource("/problems/{code}")
                .route(web::get().to(refusals::page))
                .default_service(refusals::only("GET")),
        );
    if state.webhook {
        config.configure(webhook::routes);
    }
    if state.api {
        config.service(
            web::scope("/v1")
                .wrap(from_fn(auth::require_api_key))
                .app_data(refusals::json_config())
                .app_data(refusals::path_config())
                .app_data(refusals::query_config())
                .service(
                    web::resource("/videos")
                        .route(web::get().to(videos::list))
                        .route(web::post().to(uploads::create))
                        .default_service(refusals::only("GET, POST")),
                )
                .service(
                    web::resource("/videos/{video_id}")
                        .route(web::get().to(videos::show))
                        .default_service(refusals::only("GET")),
                )
                .service(
                    web::resource("/videos/{video_id}/similar")
                        .route(web::get().to(videos::similar))
                        .default_service(refusals::only("GET")),
                )
                .default_service(web::to(refusals::not_found)),
        );
    }
}

/// One line per answer. The path has no secrets: tokens come in headers, presigned URLs only in bodies.
async fn log(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let response = next.call(request).await?;
    let status = response.status();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), duration_ms, "request failed");
    } else if status.is_client_error() || !method.is_safe() {
        tracing::info!(%method, path, status = status.as_u16(), duration_ms, "request answered");
    } else {
        tracing::debug!(%method, path, status = status.as_u16(), duration_ms, "request answered");
    }
    Ok(response)
}
