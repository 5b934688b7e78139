//! What the parent makes of a child that lies, talks without end, or writes what should steer a terminal.

use std::fs;
use std::time::Instant;

use pipeline::media::MediaError;
use pipeline::media::protocol::{Message, write_frame};
use pipeline::video::FailureCause;

use crate::media_process::{PLENTY, PROGRESS, scripted};
use crate::scripted_child::ScriptedChild;

#[tokio::test]
async fn a_message_out_of_place_is_a_crash_and_reaches_nobody() {
    let picture = Message::Frame { time_us: 0, width: 1, height: 1 };
    let child = ScriptedChild::new().says(&PROGRESS, b"").says(&picture, b"rgb");
    let (messages, end) = scripted(&child).await;
    assert_eq!(messages, [PROGRESS]);
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("frame for Transcode"), "{text}");
}

#[tokio::test]
async fn a_child_that_does_not_say_first_what_holds_of_its_cage_is_ended() {
    let child = ScriptedChild::new().uncaged().says(&PROGRESS, b"");
    let (messages, end) = scripted(&child).await;
    assert_eq!(messages, []);
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("cage"), "{text}");
}

#[tokio::test]
async fn endless_progress_and_endless_stderr_are_ended_long_before_the_deadline() {
    let mut frame = Vec::new();
    write_frame(&mut frame, &PROGRESS, &[]).expect("a frame");
    let child = ScriptedChild::new();
    let path = child.path("endless");
    fs::write(&path, frame.repeat(1000)).expect("a file");
    let path = path.display();
    let begun = Instant::now();
    for (line, reason) in [
        (format!("while /bin/cat {path}; do :; done"), "reports of progress"),
        ("/bin/cat /dev/zero >&2".to_owned(), "floods stderr"),
    ] {
        let (_, end) = scripted(&ScriptedChild::new().does(&line)).await;
        let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
        assert!(text.contains(reason), "{text}");
    }
    assert!(begun.elapsed() < PLENTY);
}

#[tokio::test]
async fn a_detail_cannot_steer_a_terminal() {
    let detail = "bad \u{1b}[31mfile\nERROR forged line".to_owned();
    let refusal = Message::Failed { cause: FailureCause::Corrupt, detail };
    let (_, end) = scripted(&ScriptedChild::new().says(&refusal, b"")).await;
    let Err(MediaError::Failed { detail, .. }) = end else { panic!("{end:?}") };
    assert!(!detail.contains(['\u{1b}', '\n']), "{detail:?}");
}

#[tokio::test]
async fn nonsense_and_boasts_are_crashes_and_never_memory() {
    for line in ["echo this is no frame at all", r"printf '\377\377\377\377\377\377\377\377'"] {
        let (_, end) = scripted(&ScriptedChild::new().does(line)).await;
        let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
        assert!(text.contains("nonsense"), "{text}");
    }
}

#[tokio::test]
async fn a_flood_on_stderr_does_not_block_and_only_its_tail_is_kept() {
    let child = ScriptedChild::new()
        .does("i=0; while [ $i -lt 4000 ]; do echo 'line after line after line of noise' >&2; i=$((i+1)); done")
        .does("echo the last straw >&2; exit 1");
    let (_, end) = scripted(&child).await;
    let Err(MediaError::Crashed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("the last straw"), "{text}");
    assert!(text.len() < 8 * 1024, "{} bytes", text.len());
}
