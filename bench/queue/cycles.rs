//! Job cycles: from pending rows over dispatch, Redis, claim, heartbeats and fenced commit to `ready`, with stages that
//! have nothing to do.

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
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

use crate::services::World;
use crate::usage::Usage;

/// As the daemon sizes it: four ids for each slot.
const WINDOW_PER_SLOT: usize = 4;
const SMALLEST_WINDOW: usize = 16;

/// What the workers are given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Of each stage.
    pub(crate) slots: usize,
    pub(crate) stage_takes: Duration,
}

/// A worker and a dispatcher at work.
pub(crate) struct Running {
    parts: JoinSet<()>,
    stop: CancellationToken,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.parts.join_all().await;
    }
}

pub(crate) fn start(world: &World, work: Work) -> Result<Running, Box<dyn Error>> {
    let queue = Queue::new(&world.queue)?;
    let stop = CancellationToken::new();
    let mut parts = JoinSet::new();
    let dispatch = DispatchConfig {
        window: SMALLEST_WINDOW.max(WINDOW_PER_SLOT * work.slots),
        ..DispatchConfig::default()
    };
    let config = WorkerConfig {
        slots: Stage::ALL.map(|stage| (stage, work.slots)).to_vec(),
        ..WorkerConfig::default()
    };
    parts.spawn(dispatch::run(dispatch, world.db.clone(), queue.clone(), stop.clone()));
    parts.spawn(worker::run_with(
        config,
        world.db.clone(),
        queue,
        move |attempt: worker::Attempt| async move {
            tokio::time::sleep(work.stage_takes).await;
            Ok(nothing_to_do(attempt.lease.stage))
        },
        stop.clone(),
        stop.clone(),
    ));
    Ok(Running { parts, stop })
}

/// What so many jobs took.
pub(crate) struct Cycles {
    pub(crate) jobs_per_second: f64,
    /// Processor time of one job, all programs together, and Postgres' part of it.
    pub(crate) cpu_ms: f64,
    pub(crate) postgres_cpu_ms: f64,
}

/// Four jobs make a video ready.
pub(crate) async fn run(
    world: &World,
    slots: usize,
    videos: usize,
) -> Result<Cycles, Box<dyn Error>> {
    announce(world, videos).await?;
    let (usage, begun) = (Usage::now(), Instant::now());
    let running = start(world, Work { slots, stage_takes: Duration::ZERO })?;
    let open = "select exists (select 1 from videos where state <> 'ready')";
    while sqlx::query_scalar(open).fetch_one(&world.pool).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (took, used) = (begun.elapsed(), Usage::now());
    running.stop().await;
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where state = 'done'")
        .fetch_one(&world.pool)
        .await?;
    if jobs != i64::try_from(videos * Stage::ALL.len())? {
        return Err(format!("{jobs} jobs are done of {videos} videos").into());
    }
    let jobs = f64::from(u32::try_from(jobs)?);
    let cpu_ms = |program| used.since(&usage, program).as_secs_f64() * 1_000.0 / jobs;
    let [ours, postgres, redis] = ["clipstream", "postgres", "redis-server"].map(cpu_ms);
    Ok(Cycles {
        jobs_per_second: jobs / took.as_secs_f64(),
        cpu_ms: ours + postgres + redis,
        postgres_cpu_ms: postgres,
    })
}

async fn announce(world: &World, videos: usize) -> Result<(), Box<dyn Error>> {
    let accepted = stream::iter(0..videos).map(|_| async {
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
        world.db.accept_object(&object, Announcer::Webhook).await
    });
    accepted.buffer_unordered(16).try_for_each(|_| async { Ok(()) }).await?;
    // As autovacuum does in a database that is not a minute old.
    sqlx::query("analyze videos, jobs").execute(&world.pool).await?;
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
