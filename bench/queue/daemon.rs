//! The real binary, serving the webhook and nothing else.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clipstream::supervisor::{free_port, random_hex};

use crate::services::World;

/// Nobody needs a MinIO here: an event is believed until duplicate detection.
pub(crate) struct Daemon {
    process: Child,
    port: u16,
    pub(crate) token: String,
}

impl Daemon {
    pub(crate) async fn start(world: &World) -> Result<Self, Box<dyn Error>> {
        let (port, token) = (free_port()?, random_hex()?);
        let process = Command::new(env!("CARGO_BIN_EXE_clipstream"))
            .args(["serve", "--roles", "webhook", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--metrics-port", "0"])
            .env("DATABASE_URL", &world.database_url)
            .env("REDIS_URL", &world.queue.url)
            .env("MINIO_ENDPOINT", "http://127.0.0.1:9")
            .env("MINIO_ACCESS_KEY", "nobody")
            .env("MINIO_SECRET_KEY", random_hex()?)
            .env("MINIO_WEBHOOK_TOKEN", &token)
            .env("CLIPSTREAM_LOG", "error")
            .stdin(Stdio::null())
            .spawn()?;
        let daemon = Self { process, port, token };
        let until = Instant::now() + Duration::from_secs(30);
        while !daemon.takes_deliveries().await {
            if Instant::now() > until {
                return Err("the daemon did not start within 30 s".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(daemon)
    }

    /// It listens before it serves.
    async fn takes_deliveries(&self) -> bool {
        let answer = reqwest::Client::new().head(self.webhook()).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(crate) fn webhook(&self) -> String {
        format!("http://{}:{}/webhooks/minio/upload-complete", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait().map(drop)) {
            tracing::warn!(%error, "the daemon could not be ended");
        }
    }
}
