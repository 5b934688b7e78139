//! The HTTP surface alone, on a database of its own: no worker moves its videos, so a test decides what they are.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use clipstream::http::{State, server};
use clipstream::readiness::Readiness;
use pipeline::db::Db;
use pipeline::queue::{Queue, QueueConfig};
use pipeline::storage::{Storage, StorageConfig};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support;

pub(crate) const WEBHOOK_TOKEN: &str = "test-webhook-token";

/// Nobody listens on the discard port.
pub(crate) const NOBODY: &str = "postgres://clipstream@127.0.0.1:9/clipstream";

pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    pub(crate) http: Client,
    handle: ServerHandle,
    _running: JoinSet<std::io::Result<()>>,
}

impl HttpServer {
    /// Both halves.
    pub(crate) fn start(db: &Db, storage: &StorageConfig) -> Self {
        Self::with(State {
            db: db.clone(),
            readiness: readiness(db, storage),
            storage: Storage::new(storage).expect("storage settings"),
            webhook_token: WEBHOOK_TOKEN.into(),
            max_size_bytes: 1 << 30,
            api: true,
            webhook: true,
        })
    }

    pub(crate) fn with(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = server(listener, state).expect("a server");
        let handle = server.handle();
        let mut running = JoinSet::new();
        running.spawn(server);
        let http = Client::builder()
            .timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { address, http, handle, _running: running }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> RequestBuilder {
        self.request(Method::GET, path).bearer_auth(key)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // The stop is sent now; its future only waits for the end.
        drop(self.handle.stop(false));
    }
}

/// Of a process without Redis.
pub(crate) fn readiness(db: &Db, storage: &StorageConfig) -> Arc<Readiness> {
    let nobody = QueueConfig { url: "redis://127.0.0.1:9/0".into(), prefix: "test:".into() };
    let queue = Queue::new(&nobody).expect("queue settings");
    let storage = Storage::new(storage).expect("storage settings");
    Readiness::new(db.clone(), queue, storage, None, CancellationToken::new())
}

/// Storage settings for tests that only sign: nobody is asked.
pub(crate) fn signing_only() -> StorageConfig {
    let endpoint: url::Url = "http://127.0.0.1:9".parse().expect("a URL");
    StorageConfig {
        endpoint: endpoint.clone(),
        public_endpoint: endpoint,
        region: "us-east-1".into(),
        bucket: "clipstream".into(),
        access_key: "test".into(),
        secret_key: "test-secret".into(),
    }
}

/// A server with an API key of the default owner and one of somebody else.
pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) pool: PgPool,
    pub(crate) database_url: String,
    pub(crate) server: HttpServer,
    pub(crate) key: String,
    pub(crate) foreign_key: String,
    /// Dropped last: the database goes with it.
    _database: Box<dyn Any>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(&signing_only()).await
    }

    pub(crate) async fn on(storage: &StorageConfig) -> Self {
        let database = support::database().await;
        let key = database.db.create_api_key("default", "test").await.expect("a key").key;
        let foreign_key = database.db.create_api_key("other", "test").await.expect("a key").key;
        let server = HttpServer::start(&database.db, storage);
        Self {
            db: database.db.clone(),
            pool: database.pool().clone(),
            database_url: database.url.clone(),
            server,
            key,
            foreign_key,
            _database: Box::new(database),
        }
    }

    pub(crate) async fn announce(&self, body: &Value) -> Response {
        let request = self.server.request(Method::POST, "/v1/videos").bearer_auth(&self.key);
        request.json(body).send().await.expect("an answer")
    }

    /// The id of a video that waits for its upload.
    pub(crate) async fn announced(&self) -> String {
        let created: Value = self.announce(&announcement()).await.json().await.expect("JSON");
        created["video_id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn show(&self, video: &str) -> Value {
        let answer = self.server.get(&format!("/v1/videos/{video}"), &self.key).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.expect("JSON")
    }

    /// A statement with the video as `$1`: what the pipeline would have done to it.
    pub(crate) async fn sql(&self, statement: &str, video: &str) {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .bind(Uuid::parse_str(video).expect("an id"))
            .execute(&self.pool)
            .await
            .expect("the statement works");
    }
}

/// The smallest announcement that is accepted.
pub(crate) fn announcement() -> Value {
    json!({ "filename": "clip.mp4", "size": 5, "content_type": "video/mp4" })
}
