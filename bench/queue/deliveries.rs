//! Webhook deliveries: events of MinIO's shape over HTTP to the real binary, each answered after its commit.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clipstream::supervisor::{free_port, random_hex};
use pipeline::video::VideoId;
use serde_json::json;
use tokio::task::JoinSet;

use crate::services::{World, psql};

/// Deliveries answered 200 a second. Every one makes a video and its first job.
pub(crate) async fn run(
    world: &World,
    senders: usize,
    time: Duration,
) -> Result<f64, Box<dyn Error>> {
    let token = random_hex()?;
    let daemon = Daemon::start(world, &token).await?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let begun = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..senders {
        let (client, url, token) = (client.clone(), daemon.webhook(), token.clone());
        sending.spawn(async move {
            let mut accepted = 0u32;
            while begun.elapsed() < time {
                let request = client.post(&url).bearer_auth(&token).json(&event());
                let answer = request.send().await?.error_for_status()?;
                answer.bytes().await?;
                accepted += 1;
            }
            Ok::<u32, reqwest::Error>(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(sent) = sending.join_next().await {
        accepted += sent??;
    }
    let took = begun.elapsed();
    let rows: u32 = psql(&world.database_url, "select count(*) from jobs")?.parse()?;
    if rows != accepted {
        return Err(
            format!("{accepted} deliveries were answered 200 and {rows} jobs are there").into()
        );
    }
    Ok(f64::from(accepted) / took.as_secs_f64())
}

fn event() -> serde_json::Value {
    let key = format!("raw-uploads/{}.mp4", VideoId::new());
    json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": format!("clipstream/{key}"),
        "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put",
            "eventTime": "2026-11-21T02:03:04.123Z",
            "s3": {
                "bucket": { "name": "clipstream", "arn": "arn:aws:s3:::clipstream" },
                "object": {
                    "key": key, "size": 1234, "eTag": "900150983cd24fb0d6963f7d28e17f72",
                    "contentType": "video/mp4", "sequencer": "1879F0A1B2C3D4E5",
                },
            },
        }],
    })
}

/// The binary with only the webhook's role. Nobody needs a MinIO here: an event is believed until duplicate detection.
struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    async fn start(world: &World, token: &str) -> Result<Self, Box<dyn Error>> {
        let port = free_port()?;
        let process = Command::new(env!("CARGO_BIN_EXE_clipstream"))
            .args(["serve", "--roles", "webhook", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--metrics-port", "0"])
            .env("DATABASE_URL", &world.database_url)
            .env("REDIS_URL", &world.queue.url)
            .env("MINIO_ENDPOINT", "http://127.0.0.1:9")
            .env("MINIO_ACCESS_KEY", "nobody")
            .env("MINIO_SECRET_KEY", random_hex()?)
            .env("MINIO_WEBHOOK_TOKEN", token)
            .env("CLIPSTREAM_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()?;
        let daemon = Self { process, port };
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

    fn webhook(&self) -> String {
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
