//! Clips made on the spot with the ffmpeg command line, the media child run on them in process, and its output probed
//! again by ffprobe: the engine is never its own judge.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use pipeline::media::Input;
use pipeline::media::child;
use pipeline::media::protocol::{Limits, Message, RenditionKind, Request, Task, read_frame};
use pipeline::media::serving::{opening, serve};
use pipeline::video::{FailureCause, MediaFacts};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

/// An input of sound, and the usual encoders, for [`Clips::make`].
pub(crate) const TONE: &str = "-f lavfi -i sine=440:r=44100";
pub(crate) const X264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -shortest";

/// A directory of its own for one test.
pub(crate) struct Clips {
    dir: TempDir,
}

impl Clips {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs ffmpeg with these arguments (split at spaces), the output as the last one.
    pub(crate) fn make(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .current_dir(self.dir.path())
            .args(["-nostdin", "-v", "error", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// What a child said, sorted.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) facts: Option<MediaFacts>,
    pub(crate) done: Option<MediaFacts>,
    pub(crate) failed: Option<(FailureCause, String)>,
    pub(crate) poster: Option<(u32, u32, Vec<u8>)>,
    pub(crate) renditions: BTreeMap<String, Rendition>,
    pub(crate) pcm: Vec<(i64, Vec<i16>)>,
    pub(crate) frames: Vec<(i64, Vec<u8>)>,
    pub(crate) checked: Option<(u64, i64, i64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Rendition {
    pub(crate) codecs: String,
    pub(crate) kind: RenditionKind,
    pub(crate) planned_bits_per_second: u64,
    pub(crate) init: Vec<u8>,
    pub(crate) segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) start_us: i64,
    pub(crate) duration_us: i64,
    pub(crate) bytes: Vec<u8>,
}

impl Rendition {
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        match self.kind {
            RenditionKind::Video { width, height, .. } => Some((width, height)),
            RenditionKind::Audio { .. } => None,
        }
    }

    pub(crate) fn duration_us(&self) -> i64 {
        self.segments.iter().map(|segment| segment.duration_us).sum()
    }

    pub(crate) fn starts_us(&self) -> Vec<i64> {
        self.segments.iter().map(|segment| segment.start_us).collect()
    }

    /// The whole rendition as one file.
    pub(crate) fn file(&self, clips: &Clips, name: &str) -> PathBuf {
        let mut bytes = self.init.clone();
        self.segments.iter().for_each(|segment| bytes.extend(&segment.bytes));
        clips.write(&format!("{name}.mp4"), &bytes)
    }
}

pub(crate) fn run(input: &Path, task: Task) -> Said {
    run_within(input, task, Limits::default())
}

pub(crate) fn transcode(input: &Path) -> Said {
    run(input, Task::Transcode)
}

pub(crate) fn run_within(input: &Path, task: Task, limits: Limits) -> Said {
    run_input(std::fs::read(input).unwrap(), task, limits)
}

pub(crate) fn run_input(input: impl Input, task: Task, limits: Limits) -> Said {
    let mut stdout = Vec::new();
    let parent = parent(&Request { limits, task }, input);
    child::run(parent, &mut stdout).unwrap();
    sort(&stdout)
}

/// A parent that asks for this and has this input: the child's end of the socket between them.
pub(crate) fn parent(request: &Request, input: impl Input) -> UnixStream {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(&opening(request, input.size_bytes()).unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    // Ends when the child closes its end.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::UnixStream::from_std(ours).unwrap();
            let (_probed, may_read) = watch::channel(true);
            serve(socket, input, may_read, oneshot::channel().0).await;
        });
    });
    theirs
}

fn sort(stdout: &[u8]) -> Said {
    let mut said = Said::default();
    let mut from = Cursor::new(stdout);
    while let Some((message, payload)) = read_frame::<Message>(&mut from).unwrap() {
        assert!(said.done.is_none() && said.failed.is_none(), "{message:?} after the last word");
        match message {
            Message::Caged(level) => panic!("in process there is no cage: {level}"),
            Message::Facts(facts) => said.facts = Some(facts),
            Message::Done(facts) => said.done = Some(facts),
            Message::Failed { cause, detail } => said.failed = Some((cause, detail)),
            Message::Progress { done_ms, total_ms } => assert!(done_ms <= total_ms),
            Message::Poster { width, height } => {
                assert_eq!(payload.len(), (width * height * 3) as usize);
                assert!(said.poster.replace((width, height, payload)).is_none(), "two posters");
            }
            Message::Init { rendition, codecs, kind, planned_bits_per_second } => {
                let segments = Vec::new();
                let new =
                    Rendition { codecs, kind, planned_bits_per_second, init: payload, segments };
                assert!(said.renditions.insert(rendition, new).is_none(), "two inits");
            }
            Message::Segment { rendition, number, start_us, duration_us } => {
                let segments = &mut said.renditions.get_mut(&rendition).unwrap().segments;
                assert_eq!(number as usize, segments.len() + 1, "a gap in {rendition}");
                if let Some(last) = segments.last() {
                    assert_eq!(last.start_us + last.duration_us, start_us, "a hole in {rendition}");
                }
                segments.push(Segment { start_us, duration_us, bytes: payload });
            }
            Message::Pcm { start_us } => {
                let samples = payload.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
                said.pcm.push((start_us, samples.collect()));
            }
            Message::Frame { time_us, width, height } => {
                assert_eq!(payload.len(), (width * height * 3) as usize);
                said.frames.push((time_us, payload));
            }
            Message::Checked { frames, start_us, duration_us } => {
                said.checked = Some((frames, start_us, duration_us));
            }
        }
    }
    assert!(said.done.is_some() || said.failed.is_some(), "no last word");
    said
}

/// A packet as ffprobe sees it; times in microseconds.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) duration: i64,
    pub(crate) key: bool,
}

pub(crate) fn probe_packets(path: &Path) -> Vec<Probed> {
    packets(&ffprobe(path, &["-show_packets"]))
}

/// The first stream, with the number of frames that really decode.
pub(crate) fn probe_stream(path: &Path) -> Value {
    ffprobe(path, &["-count_frames", "-show_streams"])["streams"][0].clone()
}

/// Both at once.
pub(crate) fn probe(path: &Path) -> (Value, Vec<Probed>) {
    let probed = ffprobe(path, &["-count_frames", "-show_streams", "-show_packets"]);
    (probed["streams"][0].clone(), packets(&probed))
}

fn packets(probed: &Value) -> Vec<Probed> {
    // ffprobe prints six decimals: without the point they are microseconds.
    let seconds = |value: &Value| -> i64 {
        value.as_str().unwrap_or("0.000000").replacen('.', "", 1).parse().unwrap()
    };
    probed["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|packet| Probed {
            pts: seconds(&packet["pts_time"]),
            dts: seconds(&packet["dts_time"]),
            duration: seconds(&packet["duration_time"]),
            key: packet["flags"].as_str().unwrap().starts_with('K'),
        })
        .collect()
}

fn ffprobe(path: &Path, what: &[&str]) -> Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(what)
        .arg(path)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", path.display());
    serde_json::from_slice(&output.stdout).unwrap()
}
