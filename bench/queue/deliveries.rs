//! Webhook deliveries: events of MinIO's shape over HTTP to the real binary, each answered after its commit.

use std::error::Error;
use std::time::{Duration, Instant};

use pipeline::video::VideoId;
use serde_json::json;
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::services::World;

/// Deliveries answered 200 a second. Every one makes a video and its first job.
pub(crate) async fn run(
    world: &World,
    senders: usize,
    time: Duration,
) -> Result<f64, Box<dyn Error>> {
    let daemon = Daemon::start(world).await?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let begun = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..senders {
        let (client, url, token) = (client.clone(), daemon.webhook(), daemon.token.clone());
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
    let rows: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&world.pool).await?;
    if rows != i64::from(accepted) {
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
