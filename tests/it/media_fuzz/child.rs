//! One real media child on one file: what it said, how it ended, and what it cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Message, Request, Task};
use pipeline::media::{Media, MediaConfig, MediaError};
use tokio::time::interval;

use crate::support::clipstream;

/// Longer than the slowest machine needs for two seconds of the smallest pictures.
const DEADLINE: Duration = Duration::from_mins(1);

/// Starts children under a name of their own, by which they are found in /proc.
pub(super) struct Children {
    media: Media,
    program: PathBuf,
    most_memory_kib: AtomicU64,
}

/// How one ended.
pub(super) struct Ended {
    pub(super) result: Result<(), MediaError>,
    pub(super) took: Duration,
    pub(super) said: Vec<Said>,
}

pub(super) struct Said {
    pub(super) message: Message,
    pub(super) payload: Vec<u8>,
}

impl Children {
    pub(super) fn new(directory: &Path) -> Arc<Self> {
        let program = directory.join("clipstream-fuzzed");
        fs::hard_link(clipstream(), &program)
            .or_else(|_| fs::copy(clipstream(), &program).map(drop))
            .expect("a program of another name");
        let media = Media::new(MediaConfig {
            program: program.clone(),
            limits: Limits::default(),
            sandbox: Sandbox::Required,
        });
        Arc::new(Self { media, program, most_memory_kib: AtomicU64::new(0) })
    }

    /// The most memory that any child had at any time.
    pub(super) fn most_memory_mib(&self) -> u64 {
        self.most_memory_kib.load(Ordering::Relaxed) / 1024
    }

    /// Looks at the children as long as it is polled. The kernel keeps each one's peak, so a late look misses little.
    pub(super) async fn watch_memory(&self) {
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            let processes = fs::read_dir("/proc").expect("/proc");
            for process in processes.flatten() {
                if let Some(kib) = self.peak_kib(&process.path()) {
                    self.most_memory_kib.fetch_max(kib, Ordering::Relaxed);
                }
            }
        }
    }

    fn peak_kib(&self, process: &Path) -> Option<u64> {
        let command = fs::read(process.join("cmdline")).ok()?;
        if !command.starts_with(self.program.as_os_str().as_encoded_bytes()) {
            return None;
        }
        let status = fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    pub(super) async fn run(&self, input: Vec<u8>, task: Task) -> Ended {
        let begun = Instant::now();
        let mut said = Vec::new();
        let result = self.hear(input, task, &mut said).await;
        Ended { result, took: begun.elapsed(), said }
    }

    async fn hear(
        &self,
        input: Vec<u8>,
        task: Task,
        said: &mut Vec<Said>,
    ) -> Result<(), MediaError> {
        let request = Request { limits: Limits::default(), task };
        let mut process = self.media.start(request, input, DEADLINE).await?;
        while let Some((message, payload)) = process.next().await? {
            said.push(Said { message, payload: payload.to_vec() });
        }
        Ok(())
    }
}
