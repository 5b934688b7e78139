//! The runner on real Postgres and Redis, with stages that only pretend: who may commit, what is counted, how it stops.

mod counting;
mod leases;
mod operator;
mod outages;
mod path;
mod redis_faults;
mod stopping;
mod thumbnail;

use std::time::{Duration, Instant};

use pipeline::db::Announcer;
use pipeline::dispatch::{self, DispatchConfig};
use pipeline::event::CreatedObject;
use pipeline::queue::Queue;
use pipeline::stage::Stage;
use pipeline::stages::{
    Embedded, Outcome, Playback, QuantisedVector, StageError, Transcoded, Transcribed,
};
use pipeline::storage::Storage;
use pipeline::video::{MediaFacts, VideoId};
use pipeline::worker::{self, Attempt, WorkerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{TestDatabase, TestRedis, database, redis};

type Ended = Result<Outcome, StageError>;

/// Services, the dispatcher, and as many workers as the test starts.
struct World {
    database: TestDatabase,
    redis: TestRedis,
    queue: Queue,
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        Self::on(redis().await).await
    }

    async fn on(redis: TestRedis) -> Self {
        let database = database().await;
        let queue = Queue::new(&redis.queue_config()).expect("settings");
        let soft = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (db, stop) = (database.db.clone(), CancellationToken::new());
        tasks.spawn(dispatch::run(DispatchConfig::default(), db, queue.clone(), stop));
        Self { database, redis, queue, soft, hard: CancellationToken::new(), tasks }
    }

    fn start<F>(
        &mut self,
        config: WorkerConfig,
        run_stage: impl Fn(Attempt) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.start_beside(None, config, run_stage);
    }

    /// Workers that watch this storage.
    fn start_beside<F>(
        &mut self,
        storage: Option<Storage>,
        config: WorkerConfig,
        run_stage: impl Fn(Attempt) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.tasks.spawn(worker::run_beside(
            storage,
            config,
            self.database.db.clone(),
            self.queue.clone(),
            run_stage,
            self.soft.clone(),
            self.hard.clone(),
        ));
    }

    async fn upload(&self) -> VideoId {
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
        let accepted = self.database.db.accept_object(&object, Announcer::Webhook).await;
        accepted.expect("accepted").video
    }

    /// The row of a job.
    async fn job(&self, video: VideoId, stage: Stage) -> Job {
        sqlx::query_as(
            "select state, attempt, failures, crashes, lost_workers, failure_cause, last_error,
                    run_at > now() as waits
               from jobs where video_id = $1 and stage = $2",
        )
        .bind(video.0)
        .bind(stage.as_str())
        .fetch_one(self.database.pool())
        .await
        .expect("a job")
    }

    async fn first_job(&self, video: VideoId) -> Job {
        self.job(video, Stage::DuplicateDetection).await
    }

    async fn video_state(&self, video: VideoId) -> String {
        sqlx::query_scalar("select state from videos where id = $1")
            .bind(video.0)
            .fetch_one(self.database.pool())
            .await
            .expect("a video")
    }

    /// How each attempt of a video's first job ended.
    async fn outcomes(&self, video: VideoId) -> Vec<Option<String>> {
        sqlx::query_scalar(
            "select a.outcome from job_attempts a join jobs j on j.id = a.job_id
              where j.video_id = $1 and j.stage = 'duplicate_detection' order by a.attempt",
        )
        .bind(video.0)
        .fetch_all(self.database.pool())
        .await
        .expect("attempts")
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.database.pool()).await.expect("done");
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.database.pool()).await.expect("a count")
    }

    /// Whether every video that was uploaded is ready.
    async fn all_ready(&self) -> bool {
        self.count("select count(*) from videos where state <> 'ready'").await == 0
    }

    /// An outage is nobody's fault.
    async fn assert_nothing_charged(&self) {
        let charged = "select count(*) from jobs where failures + crashes + lost_workers > 0";
        assert_eq!(self.count(charged).await, 0);
    }

    /// Whether Redis holds no id at all.
    async fn is_quiet(&self) -> bool {
        for stage in Stage::ALL {
            if !self.queue.contents(stage).await.expect("contents").is_empty() {
                return false;
            }
        }
        true
    }

    /// Ends everything but the services; the workers in order if they are told so before.
    async fn stop_workers(&mut self) {
        self.soft.cancel();
        // One task is left: the dispatcher.
        while self.tasks.len() > 1 {
            self.tasks.join_next().await.expect("a task").expect("no panic");
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Job {
    state: String,
    attempt: i32,
    failures: i32,
    crashes: i32,
    lost_workers: i32,
    failure_cause: Option<String>,
    last_error: Option<String>,
    waits: bool,
}

async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}: it never was so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Short leases, so that losing one takes no time.
fn quick() -> WorkerConfig {
    WorkerConfig { lease: Duration::from_secs(2), ..WorkerConfig::default() }
}

/// What a good stage says.
fn success(stage: Stage) -> Outcome {
    let facts = MediaFacts { container: "mp4".into(), duration_ms: 1, video: None, audio: None };
    match stage {
        Stage::DuplicateDetection => Outcome::Original { sha256: None },
        Stage::Transcode => Outcome::Transcoded(Transcoded {
            sha256: [7; 32],
            facts,
            playback: Playback { attempt: 1, duration_ms: 1, renditions: Vec::new() },
        }),
        Stage::SpeechToText => Outcome::Transcribed(Transcribed {
            status: "no_audio".into(),
            engine: "stub".into(),
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

async fn succeed(attempt: Attempt) -> Ended {
    Ok(success(attempt.lease.stage))
}
