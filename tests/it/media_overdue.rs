//! When a child is ended from outside: at its deadline, and when its work stands still. It is asked first and killed then,
//! with all that it started, and never for what its parent is to blame for.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::media::protocol::{Limits, Message, Request};
use pipeline::media::{Input, InputError, MediaError};
use pipeline::video::FailureCause;

use crate::media_process::{PLENTY, PROGRESS, assert_gone, heard, media, request, within};
use crate::scripted_child::{ScriptedChild, done};
use crate::support::clipstream;

#[tokio::test]
async fn a_deadline_ends_the_whole_group() {
    let child = ScriptedChild::new();
    let pids = child.path("pids");
    let child = child
        .does(&format!("/bin/sleep 300 & echo $! $$ > {}", pids.display()))
        .says(&PROGRESS, b"")
        .does("wait");
    let media = media(child.program());
    let (messages, end) = heard(&media, Vec::new(), Duration::from_millis(1500)).await;
    assert_eq!(messages, [PROGRESS], "the script had begun");
    assert!(matches!(end, Err(MediaError::DeadlineExceeded(_))), "{end:?}");
    assert_gone(&pids);
}

#[tokio::test]
async fn a_silent_child_is_stuck_and_killed() {
    let child = ScriptedChild::new().says(&PROGRESS, b"").does("/bin/sleep 300");
    let limits = Limits { max_stall_ms: 500, ..Limits::default() };
    let media = within(child.program(), limits);
    let begun = Instant::now();
    let (_, end) = heard(&media, Vec::new(), PLENTY).await;
    assert!(matches!(end, Err(MediaError::Stalled(_))), "{end:?}");
    assert!(begun.elapsed() < PLENTY);
}

/// Many messages, and no progress in any of them.
#[tokio::test]
async fn a_child_that_repeats_its_progress_is_stuck() {
    let child = ScriptedChild::new().says(&PROGRESS, b"");
    let again = child.path("frame-1");
    let child =
        child.does(&format!("while :; do /bin/cat {}; /bin/sleep 0.05; done", again.display()));
    let limits = Limits { max_stall_ms: 700, ..Limits::default() };
    let media = within(child.program(), limits);
    let begun = Instant::now();
    let (messages, end) = heard(&media, Vec::new(), PLENTY).await;
    assert!(matches!(end, Err(MediaError::Stalled(_))), "{end:?}");
    assert!(messages.len() > 3, "it spoke all the while: {}", messages.len());
    assert!(begun.elapsed() < PLENTY);
}

#[tokio::test]
async fn a_child_that_makes_progress_is_left_alone() {
    let mut child = ScriptedChild::new();
    for done_ms in 1..=8 {
        child = child.says(&Message::Progress { done_ms, total_ms: 8 }, b"").does("/bin/sleep 0.3");
    }
    let child = child.says(&done(8), b"");
    let limits = Limits { max_stall_ms: 1_500, ..Limits::default() };
    let media = within(child.program(), limits);
    let (messages, end) = heard(&media, Vec::new(), PLENTY).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(messages.len(), 9);
}

/// The time in which the parent is busy elsewhere is not the child's.
#[tokio::test]
async fn a_child_that_waits_for_its_parent_is_not_stuck() {
    let child = ScriptedChild::new()
        .says(&PROGRESS, b"")
        .says(&PROGRESS, b"")
        .waits_for("go")
        .says(&done(1), b"");
    let limits = Limits { max_stall_ms: 1_000, ..Limits::default() };
    let media = within(child.program(), limits);
    let request = Request { limits: media.limits().clone(), ..request() };
    let mut process = media.start(request, Vec::new(), PLENTY).await.expect("a start");
    assert!(process.next().await.expect("a message").is_some());
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(process.next().await.expect("the same again, and no stall").is_some());
    child.allow("go");
    assert!(process.next().await.expect("the end").is_some());
}

/// Storage that is away for a while, then back.
struct SlowInput(Duration);

impl Input for SlowInput {
    fn size_bytes(&self) -> u64 {
        1000
    }

    async fn read(&mut self, _: u64, length: u32) -> Result<Bytes, InputError> {
        tokio::time::sleep(std::mem::take(&mut self.0)).await;
        Ok(vec![0; length as usize].into())
    }
}

/// While storage is away the child has nothing to work on.
#[tokio::test]
async fn a_child_that_waits_for_its_input_is_not_stuck() {
    // Longer than a busy machine takes to start a child, shorter than the input.
    let limits = Limits { max_stall_ms: 6_000, ..Limits::default() };
    let media = within(clipstream().to_owned(), limits);
    let (_, end) = heard(&media, SlowInput(Duration::from_secs(8)), PLENTY).await;
    let Err(MediaError::Failed { cause, .. }) = end else { panic!("{end:?}") };
    assert_eq!(cause, FailureCause::UnsupportedFormat, "it had its zeros in the end");
}

#[tokio::test]
async fn an_overdue_child_is_asked_to_end_before_it_is_killed() {
    let child = ScriptedChild::new();
    let (asked, pids) = (child.path("asked"), child.path("pids"));
    let child = child
        .does(&format!("trap 'echo yes > {}; exit 0' TERM", asked.display()))
        .does(&format!("echo $$ > {}", pids.display()))
        .says(&PROGRESS, b"")
        .does("while :; do /bin/sleep 0.05; done");
    let limits = Limits { max_stall_ms: 500, ..Limits::default() };
    let media = within(child.program(), limits);
    let (_, end) = heard(&media, Vec::new(), PLENTY).await;
    assert!(matches!(end, Err(MediaError::Stalled(_))), "{end:?}");
    assert!(asked.exists(), "it had no chance to end by itself");
    assert_gone(&pids);
}

/// Deaf to the signal, leader and all: the leader's own end must not save the rest of the group.
#[tokio::test]
async fn whoever_does_not_listen_is_killed_a_moment_later() {
    let child = ScriptedChild::new();
    let pids = child.path("pids");
    let child = child
        .does(&format!(
            "(trap '' TERM; while :; do /bin/sleep 0.05; done) & echo $! $$ > {}",
            pids.display()
        ))
        .says(&PROGRESS, b"")
        .does("wait");
    let limits = Limits { max_stall_ms: 300, ..Limits::default() };
    let media = within(child.program(), limits);
    let begun = Instant::now();
    let (_, end) = heard(&media, Vec::new(), PLENTY).await;
    assert!(matches!(end, Err(MediaError::Stalled(_))), "{end:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_gone(&pids);
}

#[tokio::test]
async fn the_child_is_told_its_deadline() {
    let child = ScriptedChild::new().says(&done(1), b"");
    let media = media(child.program());
    let mut process = media.start(request(), Vec::new(), PLENTY).await.expect("a start");
    while process.next().await.expect("no error").is_some() {}
    let told = fs::read_dir(child.path("")).expect("the directory").filter_map(Result::ok);
    let request = told
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("request.").is_some_and(|id| id.parse::<u32>().is_ok())
        })
        .map(|entry| fs::read(entry.path()).expect("what the child was sent"))
        .next()
        .expect("a request");
    let text = String::from_utf8_lossy(&request);
    assert!(text.contains(r#""max_run_ms":30000"#), "{text}");
}
