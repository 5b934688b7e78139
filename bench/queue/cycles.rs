//! Job cycles: from pending rows over dispatch, Redis, claim, heartbeats and fenced commit to `ready`, with stages that
//! have nothing to do.

use std::error::Error;
use std::time::{Duration, Instant};

use pipeline::db::Announcer;
use pipeline::dispatch::{self, DispatchConfig};
use pipeline::event::CreatedObject;
use pipeline::queue::Queue;
use pipeline::stage::Stage;
use pipeline::stages::{Embedded, Outcome, Playback, QuantisedVector, Transcoded, Transcribed};
use pipeline::video::{MediaFacts, VideoId};
use pipeline::worker::{self, WorkerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::services::{World, psql};

/// As the daemon sizes it: four ids for each slot.
const WINDOW_PER_SLOT: usize = 4;
const SMALLEST_WINDOW: usize = 16;

/// Jobs a second. Four jobs make a video ready.
pub(crate) async fn run(world: &World, slots: usize, videos: usize) -> Result<f64, Box<dyn Error>> {
    announce(world, videos).await?;
    let queue = Queue::new(&world.queue)?;
    let stop = CancellationToken::new();
    let mut parts = JoinSet::new();
    let dispatch = DispatchConfig {
        window: SMALLEST_WINDOW.max(WINDOW_PER_SLOT * slots),
        ..DispatchConfig::default()
    };
    let config = WorkerConfig {
        slots: Stage::ALL.map(|stage| (stage, slots)).to_vec(),
        ..WorkerConfig::default()
    };
    let begun = Instant::now();
    parts.spawn(dispatch::run(dispatch, world.db.clone(), queue.clone(), stop.clone()));
    parts.spawn(worker::run_with(
        config,
        world.db.clone(),
        queue,
        async |attempt: worker::Attempt| Ok(nothing_to_do(attempt.lease.stage)),
        stop.clone(),
        stop.clone(),
    ));
    let open = "select count(*) from videos where state <> 'ready'";
    while psql(&world.database_url, open)? != "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begun.elapsed();
    stop.cancel();
    parts.join_all().await;
    let jobs: f64 =
        psql(&world.database_url, "select count(*) from jobs where state = 'done'")?.parse()?;
    Ok(jobs / took.as_secs_f64())
}

async fn announce(world: &World, videos: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..videos {
        let id = VideoId::new();
        let object = CreatedObject {
            bucket: "clipstream".to_owned(),
            key: format!("raw-uploads/{id}.mp4"),
            etag: Some(id.to_string()),
            version_id: None,
            size_bytes: 4,
            content_type: None,
            sequencer: None,
        };
        world.db.accept_object(&object, Announcer::Webhook).await?;
    }
    Ok(())
}

/// What a stage says that went well.
fn nothing_to_do(stage: Stage) -> Outcome {
    let facts = MediaFacts { container: "mp4".into(), duration_ms: 1, video: None, audio: None };
    let playback = Playback { attempt: 1, duration_ms: 1, renditions: Vec::new() };
    match stage {
        Stage::DuplicateDetection => Outcome::Original { sha256: None },
        Stage::Transcode => {
            let sha256: [u8; 32] = std::array::from_fn(|_| 7);
            Outcome::Transcoded(Transcoded { sha256, facts, playback })
        }
        Stage::SpeechToText => Outcome::Transcribed(Transcribed {
            status: "no_audio".into(),
            engine: "none".into(),
            language: None,
            segments: 0,
            speech_seconds: 0.0,
        }),
        Stage::Embeddings => Outcome::Embedded(Embedded {
            engine: "builtin".into(),
            model: "look-1".into(),
            segments: 1,
            vector: Some(QuantisedVector { scale: 0.5, components: vec![1, -1] }),
        }),
    }
}
