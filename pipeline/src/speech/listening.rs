//! Listens to the sound of one video on a thread of its own: the detector computes without a pause, which would hold
//! up whatever else runs on an async thread. Memory is bounded by the feed; the thread ends when the feed does.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::SpeechError;
use super::intervals::{Interval, Intervals, SAMPLES_PER_MS};
use super::model::{ModelFile, VoiceModel, WINDOW};
use super::sound::Sound;

/// Chunks of about a second that may wait.
const FEED: usize = 4;

/// A sound that is being listened to. Dropping it ends the thread at its next chunk.
pub struct Listening {
    feed: mpsc::Sender<Bytes>,
    heard: oneshot::Receiver<Result<Heard, SpeechError>>,
}

/// What was heard. Times count from the first sample.
#[derive(Debug)]
pub struct Heard {
    /// In order, apart, at most 30 s each.
    pub intervals: Vec<Interval>,
    pub duration_ms: u64,
    /// Kept only when the engine needs it.
    pub(super) sound: Option<Sound>,
}

impl Heard {
    #[must_use]
    pub fn speech_ms(&self) -> u64 {
        self.intervals.iter().map(Interval::duration_ms).sum()
    }
}

impl Listening {
    /// Starts a thread; returns when the model is loaded. The sound is kept at `keep`, if given.
    pub(super) async fn start(
        model: Arc<ModelFile>,
        keep: Option<PathBuf>,
    ) -> Result<Self, SpeechError> {
        let (feed, inbox) = mpsc::channel(FEED);
        let (tell_ready, ready) = oneshot::channel();
        let (tell_heard, heard) = oneshot::channel();
        thread::Builder::new().name("voice".into()).spawn(move || {
            let ear = match Ear::new(&model, keep) {
                Ok(ear) => ear,
                Err(error) => return drop(tell_ready.send(Err(error))),
            };
            // A receiver that is gone does not want to know.
            drop(tell_ready.send(Ok(())));
            drop(tell_heard.send(ear.attend(inbox)));
        })?;
        ready.await.map_err(|_| thread_died())??;
        Ok(Self { feed, heard })
    }

    /// The next samples: signed 16-bit little-endian, mono, 16 kHz. Waits while the detector is behind.
    pub async fn push(&mut self, pcm: Bytes) -> Result<(), SpeechError> {
        if self.feed.send(pcm).await.is_ok() {
            return Ok(());
        }
        match (&mut self.heard).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(thread_died()),
        }
    }

    /// The sound is over.
    pub async fn finish(self) -> Result<Heard, SpeechError> {
        drop(self.feed);
        self.heard.await.map_err(|_| thread_died())?
    }
}

fn thread_died() -> SpeechError {
    SpeechError::Internal("the voice detector's thread died; its panic is in the log".into())
}

/// The thread's side.
struct Ear {
    model: VoiceModel,
    intervals: Intervals,
    sound: Option<Sound>,
    window: [f32; WINDOW],
    filled: usize,
    samples: u64,
}

impl Ear {
    fn new(model: &ModelFile, keep: Option<PathBuf>) -> Result<Self, SpeechError> {
        Ok(Self {
            model: model.detector()?,
            intervals: Intervals::default(),
            sound: keep.map(|path| Sound::create(&path)).transpose()?,
            window: [0.0; WINDOW],
            filled: 0,
            samples: 0,
        })
    }

    fn attend(mut self, mut inbox: mpsc::Receiver<Bytes>) -> Result<Heard, SpeechError> {
        while let Some(pcm) = inbox.blocking_recv() {
            self.hear(&pcm)?;
        }
        self.finish()
    }

    fn hear(&mut self, pcm: &[u8]) -> Result<(), SpeechError> {
        let (samples, []) = pcm.as_chunks::<2>() else {
            return Err(SpeechError::Internal("the sound came with half a sample".into()));
        };
        if let Some(sound) = &mut self.sound {
            sound.append(pcm)?;
        }
        self.samples += samples.len() as u64;
        for sample in samples {
            self.window[self.filled] = f32::from(i16::from_le_bytes(*sample)) / 32_768.0;
            self.filled += 1;
            if self.filled == WINDOW {
                self.intervals.push(self.model.probability(&self.window)?);
                self.filled = 0;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Heard, SpeechError> {
        if self.filled > 0 {
            self.window[self.filled..].fill(0.0);
            self.intervals.push(self.model.probability(&self.window)?);
        }
        Ok(Heard {
            intervals: self.intervals.finish(self.samples),
            duration_ms: self.samples / SAMPLES_PER_MS,
            sound: self.sound,
        })
    }
}
