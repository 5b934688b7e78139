//! A worker process: the real runner with stages that pretend. They take as long as the seed says, fail once in a while,
//! read the real source, put real objects under their attempt's keys, and sign everything they write with their attempt and their name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use pipeline::clock;
use pipeline::db::Db;
use pipeline::media::cage::Sandbox;
use pipeline::media::{Limits, Media, MediaConfig};
use pipeline::queue::{Queue, QueueConfig};
use pipeline::speech::{Speech, SpeechConfig, SpeechEngine};
use pipeline::stage::Stage;
use pipeline::stages::{
    Embedded, Outcome, Playback, QuantisedVector, Report, Scratch, StageContext, StageError, Tools,
    Transcoded, Transcribed, publish,
};
use pipeline::storage::{Precondition, Storage, StorageConfig, StorageError, StorageKey};
use pipeline::video::{FailureCause, MediaFacts};
use pipeline::worker::{self, Attempt, WorkerConfig};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Jobs of each stage at once.
const SLOTS: usize = 2;
const BEAT: Duration = Duration::from_millis(50);
/// A source with this ending takes the first transcode of it longer than any lease.
pub(crate) const LONG: &str = "mov";
/// The first transcode of one with this ending fails.
pub(crate) const UNLUCKY: &str = "avi";

/// What the fleet tells a worker, in its environment.
#[derive(Parser)]
struct Args {
    #[arg(env = "DATABASE_URL", long)]
    database_url: String,
    #[arg(env = "REDIS_URL", long)]
    redis_url: String,
    #[arg(env = "MINIO_ENDPOINT", long)]
    minio_endpoint: Url,
    #[arg(env = "MINIO_ACCESS_KEY", long)]
    access_key: String,
    #[arg(env = "MINIO_SECRET_KEY", long)]
    secret_key: String,
    #[arg(env = "MINIO_BUCKET", long)]
    bucket: String,
    #[arg(env = "CLIPSTREAM_LEASE_SECONDS", long)]
    lease_seconds: u64,
    #[arg(env = "CLIPSTREAM_SCRATCH", long)]
    scratch: PathBuf,
    #[arg(env = "CHAOS_SEED", long)]
    seed: u64,
    #[arg(env = "CHAOS_NAME", long)]
    name: String,
    #[arg(env = "CHAOS_BEATS", long)]
    beats: PathBuf,
}

/// Serves until it is killed, or told to end.
pub(crate) async fn run() {
    // The word that chose this mode is the program's name here.
    let args = Args::parse_from(std::env::args().skip(1));
    tracing_subscriber::fmt().json().init();
    let storage = Storage::new(&StorageConfig {
        endpoint: args.minio_endpoint.clone(),
        public_endpoint: args.minio_endpoint,
        region: "us-east-1".to_owned(),
        bucket: args.bucket,
        access_key: args.access_key,
        secret_key: args.secret_key,
    })
    .expect("usable settings");
    let speech = SpeechConfig { engine: SpeechEngine::Stub, vad_model: PathBuf::from("none") };
    let lease = Duration::from_secs(args.lease_seconds);
    let actor = Arc::new(Actor {
        name: args.name,
        seed: args.seed,
        lease,
        beats: Beats::open(&args.beats),
        tools: Tools {
            storage: storage.clone(),
            media: Media::new(MediaConfig {
                program: PathBuf::from("/bin/false"),
                limits: Limits::default(),
                sandbox: Sandbox::Required,
            }),
            speech: Arc::new(Speech::new(speech)),
            scratch: Scratch::open(args.scratch).expect("a scratch directory"),
        },
    });
    let config = WorkerConfig {
        slots: Stage::ALL.map(|stage| (stage, SLOTS)).to_vec(),
        lease,
        ..WorkerConfig::default()
    };
    let db = Db::connect(&args.database_url, 20).expect("a URL");
    let queue = QueueConfig { url: args.redis_url, prefix: "clipstream:".to_owned() };
    let queue = Queue::new(&queue).expect("settings");
    let run_stage = move |attempt: Attempt| {
        let actor = Arc::clone(&actor);
        async move { actor.pretend(attempt).await }
    };
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let mut terminate = signal(SignalKind::terminate()).expect("a handler");
    let stop = soft.clone();
    let stopping = async move {
        terminate.recv().await;
        stop.cancel();
    };
    let run = worker::run_beside(Some(storage), config, db, queue, run_stage, soft, hard);
    tokio::join!(run, stopping);
}

struct Actor {
    name: String,
    seed: u64,
    lease: Duration,
    tools: Tools,
    beats: Beats,
}

/// How an attempt goes, as the dice of its video and stage say.
struct Course {
    work: Duration,
    /// It does not hear when it is told to stop.
    deaf: bool,
    ends: Result<(), StageError>,
}

impl Actor {
    async fn pretend(&self, attempt: Attempt) -> Result<Outcome, StageError> {
        let course = self.course(&attempt);
        let context = attempt.with(self.tools.clone());
        let lease = context.lease;
        // Nobody waits for it; the next one would say more.
        #[expect(clippy::cast_precision_loss, reason = "attempts are few")]
        drop(context.reports.try_send(Report::Progress(lease.attempt as f32 / 1_000.0)));
        if lease.stage == Stage::DuplicateDetection {
            read_source(&context).await?;
        }
        self.work(&context, &course).await?;
        course.ends?;
        let signature = self.signature(&context);
        Ok(match lease.stage {
            Stage::DuplicateDetection => Outcome::Original { sha256: Some(signed_hash(&context)) },
            Stage::Transcode => Outcome::Transcoded(self.transcode(&context, signature).await?),
            Stage::SpeechToText => {
                Outcome::Transcribed(self.transcribe(&context, signature).await?)
            }
            Stage::Embeddings => Outcome::Embedded(self.embed(&context, signature).await?),
        })
    }

    fn signature(&self, context: &StageContext) -> String {
        format!("{}@{}", context.lease.attempt, self.name)
    }

    fn course(&self, attempt: &Attempt) -> Course {
        let stage = attempt.lease.stage;
        // The size of a source is its number in the plan.
        let number = attempt.source.size_bytes.unwrap_or_default();
        let mut dice =
            fastrand::Rng::with_seed(self.seed ^ (number << 8) ^ u64::from(stage.number()));
        let first = attempt.lease.attempt == 1;
        let long = first && stage == Stage::Transcode && attempt.source.key.ends_with(LONG);
        let mut work = if dice.u8(..10) == 0 { dice.u64(200..900) } else { dice.u64(5..60) };
        if !first {
            // A zombie of the attempt before has time to meet it.
            work += 300;
        }
        let unlucky = stage == Stage::Transcode && attempt.source.key.ends_with(UNLUCKY);
        let misfortune = if unlucky { 0 } else { dice.u16(..1_000) };
        let (cause, detail) = (FailureCause::Dependency, format!("{}@{}", 1, self.name));
        let ends = match misfortune {
            0..10 if first && !long => Err(StageError::Retry { cause, detail }),
            10..15 if first && !long => Err(StageError::Crashed(detail)),
            _ => Ok(()),
        };
        Course {
            work: if long { self.lease * 3 } else { Duration::from_millis(work) },
            deaf: dice.u8(..3) == 0 && !long,
            ends,
        }
    }

    /// Works, and says every now and then that it does.
    async fn work(&self, context: &StageContext, course: &Course) -> Result<(), StageError> {
        let end = tokio::time::Instant::now() + course.work;
        while tokio::time::Instant::now() < end {
            if course.work > self.lease {
                self.beats.beat(context);
            }
            let pause = tokio::time::sleep_until(end.min(tokio::time::Instant::now() + BEAT));
            tokio::select! {
                () = pause => {}
                () = context.cancelled.cancelled(), if !course.deaf => return Err(StageError::Stopped),
            }
        }
        Ok(())
    }

    async fn transcode(
        &self,
        context: &StageContext,
        signature: String,
    ) -> Result<Transcoded, StageError> {
        let (video, attempt) = (context.lease.video, context.lease.attempt);
        let rendition = "480p".to_owned();
        put(context, &StorageKey::Segment { video, attempt, rendition, number: 1 }, &signature)
            .await?;
        ask(context, Report::Playable).await?;
        Ok(Transcoded {
            sha256: signed_hash(context),
            facts: MediaFacts { container: signature, duration_ms: 1, video: None, audio: None },
            playback: Playback { attempt, duration_ms: 1, renditions: Vec::new() },
        })
    }

    /// With the real writing at a fixed key: the playlist of the subtitles.
    async fn transcribe(
        &self,
        context: &StageContext,
        signature: String,
    ) -> Result<Transcribed, StageError> {
        let (video, attempt) = (context.lease.video, context.lease.attempt);
        put(context, &StorageKey::SubtitleSegment { video, attempt }, &signature).await?;
        publish::add_subtitles(context, None).await?;
        Ok(Transcribed {
            status: "transcribed".to_owned(),
            engine: signature,
            language: None,
            segments: 1,
            speech_seconds: 1.0,
        })
    }

    async fn embed(
        &self,
        context: &StageContext,
        signature: String,
    ) -> Result<Embedded, StageError> {
        let (video, attempt) = (context.lease.video, context.lease.attempt);
        let rendition = "embedding".to_owned();
        put(context, &StorageKey::Segment { video, attempt, rendition, number: 1 }, &signature)
            .await?;
        Ok(Embedded {
            engine: signature.clone(),
            model: signature,
            segments: 1,
            vector: Some(QuantisedVector { scale: 0.5, components: vec![1, -1] }),
        })
    }
}

/// The video and the attempt, in a hash' place.
fn signed_hash(context: &StageContext) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(context.lease.video.0.as_bytes());
    let attempt = u16::try_from(context.lease.attempt).expect("few attempts");
    hash[16..18].copy_from_slice(&attempt.to_be_bytes());
    hash
}

/// All of it, through the door of every stage: what came short or is another must be an error there.
async fn read_source(context: &StageContext) -> Result<(), StageError> {
    let read = async {
        let file = context.tools.scratch.source(&context.tools.storage, &context.source).await?;
        Ok::<_, StageError>((file.size_bytes(), file.sha256().await?))
    };
    let (size_bytes, sha256) = tokio::select! {
        read = read => read?,
        () = context.cancelled.cancelled() => return Err(StageError::Stopped),
    };
    let uploaded = vec![b'.'; usize::try_from(size_bytes).expect("a size")];
    if Sha256::digest(uploaded)[..] == sha256 {
        return Ok(());
    }
    let detail = format!("{}@: other bytes than were uploaded", context.lease.attempt);
    Err(StageError::Fail { cause: FailureCause::Corrupt, detail })
}

/// Announces an object and puts it: the signature, filled up to a length that tells the attempt too.
async fn put(context: &StageContext, key: &StorageKey, signature: &str) -> Result<(), StageError> {
    let length = 1_000 + usize::try_from(context.lease.attempt).expect("attempts grow from 1");
    let body = format!("{signature:<length$}");
    let announced = vec![(key.clone(), body.len() as u64)];
    ask(context, |reply| Report::Writing(announced, reply)).await?;
    match context.tools.storage.put(key, body.into(), &Precondition::None).await {
        Ok(_) => Ok(()),
        Err(StorageError::Unavailable(detail)) => Err(StageError::Outage(detail)),
        Err(error) => {
            let detail = format!("{}@: {error}", context.lease.attempt);
            Err(StageError::Retry { cause: FailureCause::Dependency, detail })
        }
    }
}

async fn ask(
    context: &StageContext,
    report: impl FnOnce(oneshot::Sender<Result<(), StageError>>) -> Report,
) -> Result<(), StageError> {
    let (reply, answer) = oneshot::channel();
    context.reports.send(report(reply)).await.map_err(|_| StageError::LeaseLost)?;
    answer.await.map_err(|_| StageError::LeaseLost)?
}

/// The signs of long work, in a file of this worker: what an attempt does outside of Postgres.
struct Beats(Mutex<File>);

impl Beats {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        Self(Mutex::new(file))
    }

    /// One line, one write: a kill leaves whole lines.
    fn beat(&self, context: &StageContext) {
        let lease = &context.lease;
        let now = clock::now().unix_timestamp_nanos() / 1_000;
        let line = format!("{} {} {now}\n", lease.job, lease.attempt);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("written");
    }
}
