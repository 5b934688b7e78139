//! A stage on real storage, with the test in the worker's place: it answers what the stage asks and keeps what it says.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::media::cage::Sandbox;
use pipeline::media::{Limits, Media, MediaConfig};
use pipeline::speech::{Speech, SpeechConfig, SpeechEngine};
use pipeline::stage::Stage;
use pipeline::stages::{self, Outcome, Report, Scratch, StageContext, StageError, Tools};
use pipeline::storage::{Precondition, Storage, StorageConfig, StorageKey};
use pipeline::video::{BytesClaim, OwnerId, SizeClaim, Source, VideoId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support;

/// Hash of the source, and those of the candidates.
type ClaimedBytes = ([u8; 32], Vec<(VideoId, [u8; 32])>);

/// What the worker heard from a stage.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) announced: Vec<String>,
    pub(crate) playable: u32,
    pub(crate) claimed_size: Option<u64>,
    pub(crate) claimed_bytes: Option<ClaimedBytes>,
}

/// What the worker answers.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) size: SizeClaim,
    pub(crate) bytes: BytesClaim,
}

impl Default for Answers {
    fn default() -> Self {
        Self { size: SizeClaim::First, bytes: BytesClaim::Original }
    }
}

pub(crate) struct StageWorld {
    pub(crate) storage: Storage,
    pub(crate) storage_config: StorageConfig,
    pub(crate) scratch_root: TempDir,
    pub(crate) cancelled: CancellationToken,
    pub(crate) limits: Limits,
    heard: Arc<Mutex<Heard>>,
    /// Stopped when the world ends.
    _minio: Box<dyn Any>,
}

impl StageWorld {
    pub(crate) async fn new() -> Self {
        let minio = support::minio().await;
        let storage_config = minio.storage_config();
        Self {
            storage: Storage::new(&storage_config).expect("usable settings"),
            storage_config,
            scratch_root: tempfile::tempdir().expect("a directory"),
            cancelled: CancellationToken::new(),
            limits: Limits::default(),
            heard: Arc::default(),
            _minio: Box::new(minio),
        }
    }

    pub(crate) fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("no panic while it was held")
    }

    /// A source of a new video in the bucket.
    pub(crate) async fn upload(&self, body: &[u8]) -> Source {
        let video = VideoId::new();
        let key = StorageKey::Source { video, extension: "mp4" };
        let put = self.storage.put(&key, body.to_vec().into(), &Precondition::IfAbsent).await;
        Source {
            video,
            key: key.to_string(),
            etag: Some(put.expect("a PUT")),
            version_id: None,
            size_bytes: Some(body.len() as u64),
            sha256: None,
        }
    }

    pub(crate) fn context(
        &self,
        source: &Source,
        stage: Stage,
        attempt: i32,
        program: &Path,
        reports: mpsc::Sender<Report>,
    ) -> StageContext {
        let video = source.video;
        let speech = SpeechConfig { engine: SpeechEngine::Stub, vad_model: PathBuf::from("none") };
        StageContext {
            lease: Lease {
                job: JobId::new(),
                video,
                owner: OwnerId::DEFAULT,
                stage,
                attempt,
                worker: WorkerId::new(),
            },
            source: source.clone(),
            tools: Tools {
                storage: self.storage.clone(),
                media: Media::new(MediaConfig {
                    program: program.to_owned(),
                    limits: self.limits.clone(),
                    sandbox: Sandbox::Required,
                }),
                speech: Arc::new(Speech::new(speech)),
                scratch: Scratch::open(self.scratch_root.path().to_owned()).expect("a scratch"),
            },
            deadline: Duration::from_mins(2),
            cancelled: self.cancelled.clone(),
            reports,
        }
    }

    /// One attempt, to its end.
    pub(crate) async fn run(
        &self,
        source: &Source,
        stage: Stage,
        attempt: i32,
        program: &Path,
        answers: Answers,
    ) -> Result<Outcome, StageError> {
        self.with_worker(answers, async |reports| {
            let context = self.context(source, stage, attempt, program, reports);
            stages::run(stage, &context).await
        })
        .await
    }

    /// Does something that talks to a worker, with the test as the worker.
    pub(crate) async fn with_worker<T>(
        &self,
        answers: Answers,
        work: impl AsyncFnOnce(mpsc::Sender<Report>) -> T,
    ) -> T {
        let (reports, mut inbox) = mpsc::channel(16);
        let worker = async {
            while let Some(report) = inbox.recv().await {
                self.answer(report, &answers);
            }
        };
        tokio::join!(work(reports), worker).0
    }

    fn answer(&self, report: Report, answers: &Answers) {
        let mut heard = self.heard();
        // A stage that was cancelled does not wait for its answer any more.
        match report {
            Report::Progress(share) => assert!((0.0..=1.0).contains(&share), "{share}"),
            Report::Writing(objects, reply) => {
                heard.announced.extend(objects.iter().map(|(key, _)| key.to_string()));
                drop(reply.send(Ok(())));
            }
            Report::Playable(reply) => {
                heard.playable += 1;
                drop(reply.send(Ok(())));
            }
            Report::ClaimSize { size_bytes, reply } => {
                heard.claimed_size = Some(size_bytes);
                drop(reply.send(Ok(answers.size.clone())));
            }
            Report::ClaimBytes { sha256, candidates, reply } => {
                heard.claimed_bytes = Some((sha256, candidates));
                drop(reply.send(Ok(answers.bytes)));
            }
        }
    }

    pub(crate) async fn text(&self, key: &StorageKey) -> Option<String> {
        let (body, _) = self.storage.get(&key.to_string(), 1 << 20).await.ok()?;
        Some(String::from_utf8(body.to_vec()).expect("text"))
    }

    /// Whether nothing is left in any scratch directory.
    pub(crate) fn scratch_is_empty(&self) -> bool {
        let entries = std::fs::read_dir(self.scratch_root.path()).expect("the root");
        entries.filter_map(Result::ok).all(|entry| !entry.path().is_dir())
    }
}
