//! How much a worker does at once, and how long its claims hold.

use std::time::Duration;

use clap::Args;
use pipeline::dispatch::DispatchConfig;
use pipeline::media::cage::Sandbox;
use pipeline::stage::Stage;
use pipeline::worker::WorkerConfig;

/// Ids that wait in Redis for each running slot: enough that no worker waits, few enough that repair is cheap.
const WINDOW_PER_SLOT: usize = 4;
const MIN_WINDOW: usize = 16;

#[derive(Args, Clone)]
#[command(next_help_heading = "The worker")]
pub struct WorkerSettings {
    /// Duplicate detections at once
    #[arg(long, env = "CLIPSTREAM_DUPLICATE_DETECTION_SLOTS", default_value_t = 4, value_name = "COUNT",
          value_parser = slots)]
    duplicate_detection_slots: usize,
    /// Transcodes at once [default: one for every two cores]
    #[arg(long, env = "CLIPSTREAM_TRANSCODE_SLOTS", value_name = "COUNT", value_parser = slots)]
    transcode_slots: Option<usize>,
    /// Speech-to-texts at once
    #[arg(long, env = "CLIPSTREAM_SPEECH_TO_TEXT_SLOTS", default_value_t = 2, value_name = "COUNT",
          value_parser = slots)]
    speech_to_text_slots: usize,
    /// Embeddings at once
    #[arg(long, env = "CLIPSTREAM_EMBEDDINGS_SLOTS", default_value_t = 2, value_name = "COUNT",
          value_parser = slots)]
    embeddings_slots: usize,
    /// How long a claim holds without a heartbeat, in seconds
    #[arg(long, env = "CLIPSTREAM_LEASE_SECONDS", default_value_t = 15, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(3..=3600))]
    lease_seconds: u64,
    /// How much of the media child's cage must hold: required, container (all but namespaces) or best-effort
    /// [default: required; `dev`: best-effort]
    #[arg(long, env = "CLIPSTREAM_SANDBOX", value_name = "LEVEL")]
    sandbox: Option<Sandbox>,
}

impl WorkerSettings {
    /// For the stages that a process works on.
    #[must_use]
    pub fn worker(&self, stages: &[Stage], drain_timeout: Duration) -> WorkerConfig {
        WorkerConfig {
            slots: stages.iter().map(|stage| (*stage, self.slots_of(*stage))).collect(),
            lease: Duration::from_secs(self.lease_seconds),
            drain_timeout,
            ..WorkerConfig::default()
        }
    }

    /// How much of the cage must hold before media is read.
    #[must_use]
    pub fn sandbox(&self, default: Sandbox) -> Sandbox {
        self.sandbox.unwrap_or(default)
    }

    /// The window serves all workers, not only those of this process: it goes by the stage with the most slots.
    #[must_use]
    pub fn dispatch(&self) -> DispatchConfig {
        let slots = Stage::ALL.map(|stage| self.slots_of(stage));
        let most = slots.into_iter().max().unwrap_or_default();
        DispatchConfig {
            window: MIN_WINDOW.max(WINDOW_PER_SLOT * most),
            ..DispatchConfig::default()
        }
    }

    fn slots_of(&self, stage: Stage) -> usize {
        match stage {
            Stage::DuplicateDetection => self.duplicate_detection_slots,
            Stage::Transcode => self.transcode_slots.unwrap_or_else(|| {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                cores.div_ceil(2)
            }),
            Stage::SpeechToText => self.speech_to_text_slots,
            Stage::Embeddings => self.embeddings_slots,
        }
    }
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=256) => Ok(count),
        _ => {
            Err("write a number from 1 to 256; to leave a stage out, name the others in the roles"
                .to_owned())
        }
    }
}
