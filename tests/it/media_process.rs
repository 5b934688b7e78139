//! The parent's side of the media child: how it ends well, dies, hangs, lies, and that nothing of it stays behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Message, Request, Task};
use pipeline::media::{Input, InputError, Media, MediaConfig, MediaError};
use pipeline::video::FailureCause;

use crate::clips::clip;
use crate::scripted_child::{ScriptedChild, done};
use crate::support::{clipstream, until};

pub(crate) const PLENTY: Duration = Duration::from_secs(30);

pub(crate) fn request() -> Request {
    Request { limits: Limits::default(), task: Task::Transcode }
}

pub(crate) fn media(program: PathBuf) -> Media {
    within(program, Limits::default())
}

pub(crate) fn within(program: PathBuf, limits: Limits) -> Media {
    Media::new(MediaConfig { program, limits, sandbox: Sandbox::Required })
}

/// Everything that a child says, up to its end.
pub(crate) async fn heard(
    media: &Media,
    input: impl Input,
    deadline: Duration,
) -> (Vec<Message>, Result<(), MediaError>) {
    let mut messages = Vec::new();
    let request = Request { limits: media.limits().clone(), ..request() };
    let mut child = match media.start(request, input, deadline).await {
        Ok(child) => child,
        Err(error) => return (messages, Err(error)),
    };
    loop {
        match child.next().await {
            Ok(Some((message, _))) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

pub(crate) async fn scripted(child: &ScriptedChild) -> (Vec<Message>, Result<(), MediaError>) {
    heard(&media(child.program()), Vec::new(), PLENTY).await
}

pub(crate) const PROGRESS: Message = Message::Progress { done_ms: 1, total_ms: 2 };

#[tokio::test]
async fn a_file_that_is_no_media_is_refused_with_a_cause() {
    let input = b"#EXTM3U\nfile:///etc/passwd\n".to_vec();
    let (_, end) = heard(&media(clipstream().to_owned()), input, PLENTY).await;
    let Err(MediaError::Failed { cause, detail }) = end else { panic!("{end:?}") };
    assert_eq!(cause, FailureCause::UnsupportedFormat);
    assert!(!detail.is_empty());
}

#[tokio::test]
async fn a_good_run_ends_after_its_last_message() {
    let child = ScriptedChild::new().says(&PROGRESS, b"").says(&done(5), b"").does("/bin/sleep 60");
    let begun = Instant::now();
    let (messages, end) = scripted(&child).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(messages, [PROGRESS, done(5)]);
    assert!(begun.elapsed() < PLENTY, "a child that lingers after its work is not waited for");
}

#[tokio::test]
async fn a_refusal_is_the_error_and_the_end() {
    let refusal = Message::Failed { cause: FailureCause::Corrupt, detail: "no moov".into() };
    let child = ScriptedChild::new().says(&refusal, b"");
    let (_, end) = scripted(&child).await;
    let Err(MediaError::Failed { cause: FailureCause::Corrupt, detail }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(detail, "no moov");
}

#[tokio::test]
async fn a_killed_child_is_a_crash_that_says_how_and_after_what() {
    let child = ScriptedChild::new()
        .says(&PROGRESS, b"")
        .does("echo 'terribly \u{1b}[31mwrong' >&2")
        .does("kill -SEGV $$");
    let (messages, end) = scripted(&child).await;
    assert_eq!(messages, [PROGRESS]);
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("signal: 11"), "{text}");
    assert!(text.contains("progress"), "{text}");
    assert!(text.contains("terribly"), "{text}");
    assert!(!text.contains('\u{1b}'), "nothing of the child's may steer a terminal: {text:?}");
}

#[tokio::test]
async fn an_end_without_a_last_word_is_a_crash() {
    let (_, end) = scripted(&ScriptedChild::new().does("exit 3")).await;
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("exit status: 3"), "{text}");
    let (_, end) = scripted(&ScriptedChild::new().says(&PROGRESS, b"").does("exit 0")).await;
    assert!(matches!(end, Err(MediaError::Crashed(_))), "{end:?}");
}

#[tokio::test]
async fn a_death_that_others_caused_is_no_crash() {
    // What `systemctl stop` does to a whole control group, and a terminal to a process group.
    for signal in ["TERM", "INT", "HUP"] {
        // Not as it was inherited: whoever starts the tests in the background ignores some of them.
        let death =
            format!("exec /usr/bin/env --default-signal={signal} /bin/sh -c 'kill -{signal} $$'");
        let child = ScriptedChild::new().says(&PROGRESS, b"").does(&death);
        let (_, end) = scripted(&child).await;
        let Err(MediaError::Io(error)) = end else { panic!("{signal}: {end:?}") };
        assert!(error.to_string().contains(signal), "{error}");
    }
    // What the kernel does when the host is out of memory.
    let child = ScriptedChild::new().says(&PROGRESS, b"").does("kill -KILL $$");
    let (_, end) = scripted(&child).await;
    let Err(MediaError::Killed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("SIGKILL") && text.contains("progress"), "{text}");
}

#[tokio::test]
async fn our_own_kill_of_a_child_that_fell_silent_does_not_excuse_it() {
    let child = ScriptedChild::new().says(&PROGRESS, b"").does("exec >&-; exec /bin/sleep 60");
    let begun = Instant::now();
    let (_, end) = scripted(&child).await;
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("SIGKILL"), "{text}");
    assert!(begun.elapsed() < PLENTY, "it is not waited for");
}

#[tokio::test]
async fn dropping_the_process_leaves_nothing_running() {
    let child = ScriptedChild::new();
    let pids = child.path("pids");
    let child = child
        .does(&format!("/bin/sleep 300 & echo $! $$ > {}", pids.display()))
        .says(&PROGRESS, b"")
        .does("wait");
    let media = media(child.program());
    let mut process = media.start(request(), Vec::new(), PLENTY).await.expect("a start");
    assert!(process.next().await.expect("a message").is_some());
    drop(process);
    assert_gone(&pids);
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_no_byte() {
    let payload: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
    let poster = Message::Poster { width: 1000, height: 1000 };
    let child = ScriptedChild::new().says(&poster, &payload).says(&done(1), b"");
    let media = media(child.program());
    let mut process = media.start(request(), Vec::new(), PLENTY).await.expect("a start");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        // Far too short for the whole frame, over and over.
        let short = Duration::from_micros(200);
        if let Ok(next) = tokio::time::timeout(short, process.next()).await {
            heard.push(next.expect("no error").expect("the last word is not lost either"));
        }
    }
    let [(first, received), (last, _)] = &heard[..] else { unreachable!() };
    assert_eq!(*first, poster);
    assert!(*received == payload, "the payload is whole");
    assert_eq!(*last, done(1));
    assert!(process.next().await.expect("no error").is_none());
}

#[tokio::test]
async fn a_death_is_told_however_often_the_wait_for_it_is_given_up() {
    let child = ScriptedChild::new().says(&PROGRESS, b"").does("echo alas >&2; kill -SEGV $$");
    let media = media(child.program());
    let mut process = media.start(request(), Vec::new(), PLENTY).await.expect("a start");
    let mut end = Ok(None);
    while !matches!(end, Err(MediaError::Crashed(_))) {
        let short = Duration::from_micros(200);
        if let Ok(next) = tokio::time::timeout(short, process.next()).await {
            assert!(!matches!(next, Ok(None)), "an end without a reason");
            end = next;
        }
    }
    let text = end.expect_err("a crash").to_string();
    assert!(text.contains("signal: 11") && text.contains("alas"), "{text}");
}

#[tokio::test]
async fn the_child_gets_no_environment() {
    let child = ScriptedChild::new();
    let seen = child.path("environment");
    let child = child.does(&format!("/usr/bin/env > {}", seen.display())).says(&done(1), b"");
    let (_, end) = scripted(&child).await;
    assert!(end.is_ok(), "{end:?}");
    let environment = fs::read_to_string(seen).expect("what env wrote");
    // What the shell itself sets.
    let foreign: Vec<_> = environment
        .lines()
        .filter(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// As large as it says; readable up to a point.
struct Broken {
    clip: Vec<u8>,
    readable_bytes: u64,
    error: InputError,
}

impl Input for Broken {
    fn size_bytes(&self) -> u64 {
        self.clip.len() as u64
    }

    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        if offset + u64::from(length) > self.readable_bytes {
            return Err(self.error.clone());
        }
        self.clip.read(offset, length).await
    }
}

/// Small pictures and much sound: some 3 MiB, and seconds of work are little.
fn long_clip() -> Vec<u8> {
    let recipe = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=10 \
        -f lavfi -i anoisesrc=sample_rate=48000:duration=10 -ac 4 -c:v mjpeg -c:a pcm_s16le";
    fs::read(clip("much-sound.mkv", recipe)).expect("the clip")
}

#[tokio::test]
async fn an_input_that_fails_is_the_reason_whatever_the_child_makes_of_it() {
    let clip = long_clip();
    let lost = InputError::Lost {
        cause: FailureCause::SourceMissing,
        detail: "overwritten meanwhile".into(),
    };
    for error in [lost, InputError::Away("MinIO is away".into())] {
        for readable_bytes in [0, clip.len() as u64 / 2] {
            let input = Broken { clip: clip.clone(), readable_bytes, error: error.clone() };
            let (messages, end) = heard(&media(clipstream().to_owned()), input, PLENTY).await;
            let Err(MediaError::Input(found)) = end else { panic!("{end:?}") };
            assert_eq!(found, error);
            assert!(!messages.iter().any(|message| matches!(message, Message::Done(_))));
        }
    }
}

#[tokio::test]
async fn a_child_that_asks_for_what_is_not_there_is_broken() {
    for range in [(0_u64, 0_u32), (0, 9), (8, 1), (0, 2 << 20), (u64::MAX, 8), (5, u32::MAX)] {
        let asked: Vec<u8> =
            range.0.to_le_bytes().into_iter().chain(range.1.to_le_bytes()).collect();
        let child = ScriptedChild::new();
        let path = child.path("asked");
        fs::write(&path, asked).expect("a file");
        let child = child.does(&format!("/bin/cat {} >&0; /bin/sleep 60", path.display()));
        let begun = Instant::now();
        let (_, end) = heard(&media(child.program()), vec![0; 8], PLENTY).await;
        let Err(MediaError::Crashed(text)) = end else { panic!("{range:?}: {end:?}") };
        assert!(text.contains("it asked for"), "{text}");
        assert!(begun.elapsed() < PLENTY, "it is not waited for");
    }
}

#[tokio::test]
async fn a_file_that_takes_too_much_reading_to_be_known_is_refused_by_number() {
    // A tag with a cover picture of 80 MiB, which libav reads before it knows anything.
    // 40 times 2 to the 21st, in sevens of bits.
    let size = [40, 0, 0, 0];
    let frame = [b"APIC", &size[..], &[0, 0], b"\0image/jpeg\0\x03\0"].concat();
    let mut input = [b"ID3\x04\0\0", &[41, 0, 0, 0][..], &frame].concat();
    input.resize(input.len() + (80 << 20), 0);
    let (messages, end) = heard(&media(clipstream().to_owned()), input, PLENTY).await;
    assert_eq!(messages, []);
    let Err(MediaError::Failed { cause: FailureCause::LimitExceeded, detail }) = end else {
        panic!("{end:?}")
    };
    assert!(detail.contains("64 MiB"), "{detail}");
}

/// A zombie that its new parent has not reaped yet does not run any more.
pub(crate) fn assert_gone(pids: &Path) {
    let pids = fs::read_to_string(pids).expect("what the script wrote");
    for pid in pids.split_whitespace() {
        until("the child is gone", || match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')),
            Err(_) => true,
        });
    }
}
