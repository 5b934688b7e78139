//! Follows a video by polling until it has ended: bars per stage on a terminal, else a line per change, on stderr.
//! An outage of the daemon is waited out for a while; the video goes on without us.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pipeline::steering::is_steering;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::{Failure, exit};

const POLL: Duration = Duration::from_millis(500);
/// How long the daemon may be away (a restart) before the watch gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const STEPS: u64 = 1_000;

/// A video at the end of the command, and the exit code that it means.
pub(super) struct Watched {
    pub(super) video: Value,
    pub(super) code: u8,
}

impl Watched {
    /// Not watched: uploaded is all that was asked for.
    pub(super) fn uploaded(video: Value) -> Self {
        Self { video, code: 0 }
    }

    pub(super) fn hls_url(&self) -> Option<&str> {
        self.video.pointer("/playback/hls_url")?.as_str()
    }
}

pub(super) async fn watch(
    api: &Api,
    video_id: &str,
    timeout: Duration,
) -> Result<Watched, Failure> {
    let started = Instant::now();
    let mut answered = started;
    let mut screen = Screen::new();
    loop {
        match api.video(video_id).await {
            Ok(video) => {
                answered = Instant::now();
                screen.show(&video);
                if let Some(code) = end(&video) {
                    screen.close(&video, started.elapsed());
                    return Ok(Watched { video, code });
                }
            }
            Err(failure) if failure.code != exit::UNREACHABLE => return Err(failure),
            Err(failure) if answered.elapsed() > PATIENCE => return Err(failure),
            Err(_) => {}
        }
        if started.elapsed() >= timeout {
            return Err(Failure::coded(
                exit::TIMED_OUT,
                format!(
                    "Video {video_id} has not ended after {} s; it goes on. See GET /v1/videos/{video_id}.",
                    timeout.as_secs()
                ),
            ));
        }
        sleep(POLL).await;
    }
}

/// The exit code of an ended video. A duplicate has ended well: only a ready video is ever its original.
fn end(video: &Value) -> Option<u8> {
    match text(video, "/state")? {
        "ready" | "duplicate" => Some(0),
        "failed" | "expired" | "deleting" => Some(exit::VIDEO_FAILED),
        _ => None,
    }
}

fn text<'a>(video: &'a Value, pointer: &str) -> Option<&'a str> {
    video.pointer(pointer)?.as_str()
}

/// What the person sees.
enum Screen {
    Bars { all: MultiProgress, stages: BTreeMap<String, ProgressBar>, playable: bool },
    Lines { last: BTreeMap<String, String>, playable: bool },
}

impl Screen {
    fn new() -> Self {
        if std::io::stderr().is_terminal() {
            Screen::Bars { all: MultiProgress::new(), stages: BTreeMap::new(), playable: false }
        } else {
            Screen::Lines { last: BTreeMap::new(), playable: false }
        }
    }

    fn show(&mut self, video: &Value) {
        for (name, entry) in stages(video) {
            self.stage(name, entry);
        }
        let now_playable = text(video, "/playback/hls_url");
        let (Screen::Bars { playable, .. } | Screen::Lines { playable, .. }) = self;
        if let Some(url) = now_playable.filter(|_| !*playable) {
            *playable = true;
            self.line(&format!("playable  {url}"));
        }
    }

    fn stage(&mut self, name: &str, entry: &Value) {
        let state = text(entry, "/state").unwrap_or_default();
        match self {
            Screen::Bars { all, stages, .. } => {
                let bar = stages.entry(name.to_owned()).or_insert_with(|| all.add(bar(name)));
                let progress = entry.pointer("/progress").and_then(Value::as_f64).unwrap_or(0.0);
                bar.set_position(if state == "done" { STEPS } else { steps(progress) });
                bar.set_message(describe(entry, state));
            }
            Screen::Lines { last, .. } => {
                if last.get(name).map(String::as_str) != Some(state) {
                    last.insert(name.to_owned(), state.to_owned());
                    eprintln!("{name:<20} {}", describe(entry, state));
                }
            }
        }
    }

    fn line(&self, line: &str) {
        match self {
            // A bar that cannot print has no terminal any more: nobody misses the line.
            Screen::Bars { all, .. } => all.println(line).unwrap_or_default(),
            Screen::Lines { .. } => eprintln!("{line}"),
        }
    }

    /// Bars end as lines, so that what follows begins on a line of its own.
    fn close(&self, video: &Value, elapsed: Duration) {
        if let Screen::Bars { stages: bars, .. } = self {
            // Each by itself: a bar that is still open would draw again when it is dropped.
            bars.values().for_each(ProgressBar::finish_and_clear);
            for (name, entry) in stages(video) {
                let state = text(entry, "/state").unwrap_or_default();
                eprintln!("{name:<20} {}", describe(entry, state));
            }
        }
        eprintln!("{}", summary(video, elapsed));
    }
}

/// The entries of a video's stages with their names.
fn stages(video: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = video.pointer("/stages").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| Some((text(entry, "/stage")?, entry)))
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(STEPS).with_prefix(name.to_owned());
    match ProgressStyle::with_template("{prefix:<20} {bar:30} {percent:>3} %  {wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to 0..=1 first, then at most 1000"
)]
fn steps(progress: f64) -> u64 {
    (progress.clamp(0.0, 1.0) * STEPS as f64) as u64
}

/// One stage in words: its state, its time, and what went wrong.
fn describe(entry: &Value, state: &str) -> String {
    let attempt = entry.pointer("/attempt").and_then(Value::as_i64).unwrap_or(0);
    let attempt = (attempt > 1).then(|| format!(", attempt {attempt}"));
    let run_ms = entry.pointer("/run_ms").and_then(Value::as_f64);
    let time = run_ms.map(|run_ms| format!(", {:.1} s", run_ms / 1000.0));
    let error = text(entry, "/error/detail").or_else(|| text(entry, "/error/cause"));
    let error = error.filter(|_| state != "done").map(|error| format!(": {}", printable(error)));
    [Some(state.to_owned()), attempt, time, error].into_iter().flatten().collect()
}

fn summary(video: &Value, elapsed: Duration) -> String {
    let state = text(video, "/state").unwrap_or("unknown");
    let after = format!("after {:.1} s", elapsed.as_secs_f64());
    match state {
        "duplicate" => {
            let original = text(video, "/duplicate_of").unwrap_or("unknown");
            format!("duplicate of {original} {after}")
        }
        "failed" => {
            let cause = text(video, "/failure/cause").unwrap_or("unknown cause");
            let detail = text(video, "/failure/detail").map(printable).unwrap_or_default();
            format!("failed {after}: {cause}. {detail}")
        }
        state => format!("{state} {after}"),
    }
}

/// Words that may come from a file's insides: nothing in them may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if is_steering(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_and_duplicate_are_good_ends_and_failed_is_a_bad_one() {
        let ends = [("ready", Some(0)), ("duplicate", Some(0)), ("failed", Some(6))];
        let others = [("expired", Some(6)), ("processing", None), ("uploading", None)];
        for (state, code) in ends.into_iter().chain(others) {
            assert_eq!(end(&json!({ "state": state })), code, "{state}");
        }
    }

    #[test]
    fn a_failure_is_told_with_its_cause_and_cannot_steer_the_terminal() {
        let video = json!({
            "state": "failed",
            "failure": { "cause": "corrupt", "detail": "no \u{1b}[2Jmoov" },
        });
        let words = summary(&video, Duration::from_millis(1_250));
        assert_eq!(words, "failed after 1.2 s: corrupt. no  [2Jmoov");
    }

    #[test]
    fn a_stage_tells_its_attempt_time_and_last_error() {
        let stage = json!({ "attempt": 2, "run_ms": 1500, "error": { "cause": "corrupt" } });
        assert_eq!(describe(&stage, "running"), "running, attempt 2, 1.5 s: corrupt");
        assert_eq!(describe(&stage, "done"), "done, attempt 2, 1.5 s");
    }
}
