//! What an honest child says passes; every lie is caught at the message that tells it.

use super::*;
use crate::media::cage::Level;
use crate::video::{AudioFacts, VideoFacts};

const SECOND: i64 = 1_000_000;
const TRANSCODE: Task = Task::Transcode;
const SAMPLES: Task = Task::SampleFrames { per_second: 2.0, width: 4, height: 2 };

fn request(task: Task) -> Request {
    let limits = Limits { max_duration_ms: 60_000, ..Limits::default() };
    Request { limits, task }
}

type Said = Vec<(Message, Vec<u8>)>;

/// How many messages passed, and what was wrong with the next.
fn heard(task: &Task, said: &Said) -> (usize, Option<Breach>) {
    let mut conversation = Conversation::new(&request(task.clone()));
    for (at, (message, payload)) in said.iter().enumerate() {
        if let Err(breach) = conversation.hear(message, payload, Duration::from_secs(1)) {
            return (at, Some(breach));
        }
    }
    (said.len(), None)
}

fn facts() -> MediaFacts {
    MediaFacts {
        container: "mov,mp4,m4a,3gp,3g2,mj2".into(),
        duration_ms: 4_000,
        video: Some(VideoFacts {
            codec: "h264".into(),
            width: 640,
            height: 480,
            frame_rate: 29.97,
            rotation: 90,
            pixel_format: "yuv420p".into(),
        }),
        audio: Some(AudioFacts { codec: "aac".into(), sample_rate: 48_000, channels: 2 }),
    }
}

fn said(message: Message) -> (Message, Vec<u8>) {
    (message, Vec::new())
}

fn init(name: &str, kind: RenditionKind) -> (Message, Vec<u8>) {
    let message = Message::Init {
        rendition: name.into(),
        codecs: "avc1.64001e".into(),
        kind,
        planned_bits_per_second: 1_000_000,
    };
    (message, vec![1; 900])
}

fn video() -> RenditionKind {
    RenditionKind::Video { width: 640, height: 480, frame_rate: 29.97 }
}

fn audio() -> RenditionKind {
    RenditionKind::Audio { channels: 2, sample_rate: 48_000 }
}

fn segment(name: &str, number: u32, start_us: i64, duration_us: i64) -> (Message, Vec<u8>) {
    let message = Message::Segment { rendition: name.into(), number, start_us, duration_us };
    (message, vec![2; 1_000])
}

fn frame(time_us: i64) -> (Message, Vec<u8>) {
    (Message::Frame { time_us, width: 4, height: 2 }, vec![0; 24])
}

fn pcm(start_us: i64, bytes: usize) -> (Message, Vec<u8>) {
    (Message::Pcm { start_us }, vec![0; bytes])
}

fn poster(width: u32, height: u32, bytes: usize) -> (Message, Vec<u8>) {
    (Message::Poster { width, height }, vec![0; bytes])
}

fn opening() -> Said {
    vec![
        said(Message::Facts(facts())),
        poster(4, 2, 24),
        init("480p", video()),
        init("audio", audio()),
        segment("480p", 1, 0, 2 * SECOND),
        segment("audio", 1, -21_333, 2 * SECOND + 21_333),
        said(Message::Progress { done_ms: 2_000, total_ms: 4_000 }),
    ]
}

fn with_facts(change: impl FnOnce(&mut MediaFacts)) -> Said {
    let mut facts = facts();
    change(&mut facts);
    vec![said(Message::Facts(facts))]
}

fn with_video(change: impl FnOnce(&mut VideoFacts)) -> Said {
    with_facts(|facts| change(facts.video.as_mut().expect("it has pictures")))
}

#[test]
fn honest_children_are_heard_to_the_end() {
    let done = || said(Message::Done(facts()));
    let checked = Message::Checked { frames: 50, start_us: 2 * SECOND, duration_us: 2 * SECOND };
    let refusal = Message::Failed { cause: FailureCause::Corrupt, detail: "no moov".into() };
    let mut transcode = opening();
    transcode.extend([
        segment("480p", 2, 2 * SECOND, 2 * SECOND),
        segment("audio", 2, 2 * SECOND, 2 * SECOND + 5_000),
        done(),
    ]);
    let sound = vec![
        said(Message::Facts(facts())),
        pcm(-500, 32_000),
        pcm(SECOND - 500, 32_000),
        pcm(2 * SECOND - 500, 640),
        done(),
    ];
    let pictures = vec![said(Message::Facts(facts())), frame(0), frame(SECOND / 2), done()];
    for (task, said) in [
        (TRANSCODE, transcode),
        (TRANSCODE, vec![said(refusal)]),
        (Task::ExtractAudio, sound),
        (SAMPLES, pictures),
        (Task::CheckSegment, vec![said(checked), done()]),
    ] {
        assert_eq!(heard(&task, &said), (said.len(), None), "{task:?}");
    }
}

type Lie = (&'static str, Task, Said);

fn caught(lies: Vec<Lie>) {
    for (lie, task, said) in lies {
        let (passed, breach) = heard(&task, &said);
        assert!(breach.is_some(), "{lie} was believed");
        assert_eq!(passed, said.len() - 1, "{lie}: {breach:?}");
    }
}

fn after(lie: (Message, Vec<u8>)) -> Said {
    [opening(), vec![lie]].concat()
}

fn first(lie: (Message, Vec<u8>)) -> Said {
    vec![lie]
}

fn no_bytes((message, _): (Message, Vec<u8>)) -> (Message, Vec<u8>) {
    said(message)
}

fn progress(done_ms: u64, total_ms: u64) -> (Message, Vec<u8>) {
    said(Message::Progress { done_ms, total_ms })
}

#[test]
fn a_rendition_has_a_known_name_and_finite_numbers() {
    let with_codecs = |codecs: &str, planned: u64| {
        let (rendition, codecs) = ("720p".to_owned(), codecs.to_owned());
        let planned_bits_per_second = planned;
        let kind = video();
        (Message::Init { rendition, codecs, kind, planned_bits_per_second }, vec![1; 900])
    };
    let rate = |frame_rate| RenditionKind::Video { width: 640, height: 480, frame_rate };
    let wide = |width| RenditionKind::Video { width, height: 480, frame_rate: 25.0 };
    caught(vec![
        ("names that lead elsewhere", TRANSCODE, first(init("../../x", video()))),
        ("a rendition of another kind", TRANSCODE, first(init("audio", video()))),
        ("sound under a rung's name", TRANSCODE, first(init("480p", audio()))),
        ("a rendition twice", TRANSCODE, after(init("480p", video()))),
        ("codecs with a line break", TRANSCODE, first(with_codecs("avc1\n#EXT-X-KEY", 1))),
        ("codecs with a quote", TRANSCODE, first(with_codecs("avc1\"", 1))),
        ("no codecs", TRANSCODE, first(with_codecs("", 1))),
        ("a rate of nothing", TRANSCODE, first(with_codecs("avc1", 0))),
        ("a rate without end", TRANSCODE, first(with_codecs("avc1", u64::MAX))),
        ("a frame rate that is no number", TRANSCODE, first(init("480p", rate(f64::NAN)))),
        ("an infinite frame rate", TRANSCODE, first(init("480p", rate(f64::INFINITY)))),
        ("a negative frame rate", TRANSCODE, first(init("480p", rate(-1.0)))),
        ("too many pictures per second", TRANSCODE, first(init("480p", rate(1_000.0)))),
        ("no width", TRANSCODE, first(init("480p", wide(0)))),
        ("a width without end", TRANSCODE, first(init("480p", wide(u32::MAX)))),
        ("an empty init segment", TRANSCODE, first(no_bytes(init("480p", video())))),
    ]);
}

#[test]
fn segments_follow_each_other_without_a_gap_and_within_the_limits() {
    caught(vec![
        ("a segment before its init", TRANSCODE, first(segment("480p", 1, 0, SECOND))),
        ("a segment of another name", TRANSCODE, after(segment("2160p", 1, 0, SECOND))),
        ("a number left out", TRANSCODE, after(segment("480p", 3, 2 * SECOND, SECOND))),
        ("a number again", TRANSCODE, after(segment("480p", 1, 2 * SECOND, SECOND))),
        ("a gap", TRANSCODE, after(segment("480p", 2, 3 * SECOND, SECOND))),
        ("a step back", TRANSCODE, after(segment("480p", 2, SECOND, SECOND))),
        (
            "a segment that is too long",
            TRANSCODE,
            after(segment("480p", 2, 2 * SECOND, 9 * SECOND)),
        ),
        ("a negative duration", TRANSCODE, after(segment("480p", 2, 2 * SECOND, -1))),
        ("a segment before all time", TRANSCODE, {
            vec![init("480p", video()), segment("480p", 1, i64::MIN, SECOND)]
        }),
        ("a segment after the limit", TRANSCODE, {
            vec![init("480p", video()), segment("480p", 1, 75 * SECOND, SECOND)]
        }),
        ("an empty segment", TRANSCODE, after(no_bytes(segment("480p", 2, 2 * SECOND, SECOND)))),
    ]);
}

/// A rounding may move a start; a thousand of them may not make time stand still.
#[test]
fn messages_cannot_be_endless_by_standing_still() {
    let mut segments = vec![init("480p", video())];
    segments.extend((1..=4).map(|number| segment("480p", number, 0, 1)));
    assert_eq!(heard(&TRANSCODE, &segments).0, 3, "the third segment within the first moment");
    let mut sound = vec![said(Message::Facts(facts()))];
    sound.extend((0..2_000).map(|at: i64| pcm(at * -500, 2)));
    assert!(heard(&Task::ExtractAudio, &sound).0 < 10);
    let checked = Message::Checked { frames: 1, start_us: i64::MIN, duration_us: 1 };
    assert!(heard(&Task::CheckSegment, &vec![said(checked)]).1.is_some());
}

/// The rate is a setting.
#[test]
fn pictures_may_be_as_fast_as_the_limits_say() {
    let fast = RenditionKind::Video { width: 640, height: 480, frame_rate: 120.0 };
    for (max_frame_rate, passes) in [(120, true), (60, false)] {
        let limits = Limits { max_frame_rate, ..Limits::default() };
        let mut conversation = Conversation::new(&Request { limits, task: TRANSCODE });
        let (message, payload) = init("480p", fast.clone());
        let heard = conversation.hear(&message, &payload, Duration::from_secs(1));
        assert_eq!(heard.is_ok(), passes, "{max_frame_rate}");
    }
}

#[test]
fn everything_else_is_said_once_and_with_the_bytes_that_belong_to_it() {
    let failed = |cause, detail: &str| said(Message::Failed { cause, detail: detail.into() });
    caught(vec![
        ("a second poster", TRANSCODE, after(poster(4, 2, 24))),
        ("a poster of another size", TRANSCODE, first(poster(4, 2, 23))),
        ("a poster whose size overflows", TRANSCODE, first(poster(u32::MAX, u32::MAX, 3))),
        ("a poster of nothing", TRANSCODE, first(poster(0, 0, 0))),
        ("facts twice", TRANSCODE, after(said(Message::Facts(facts())))),
        ("more done than there is", TRANSCODE, after(progress(5, 4))),
        (
            "progress with bytes",
            TRANSCODE,
            first((Message::Progress { done_ms: 0, total_ms: 1 }, vec![1])),
        ),
        ("another task's message", TRANSCODE, after(frame(0))),
        ("caged a second time", TRANSCODE, after(said(Message::Caged(Level::default())))),
        ("a word after the last", TRANSCODE, vec![said(Message::Done(facts())), progress(1, 2)]),
        ("the worker's own cause", TRANSCODE, first(failed(FailureCause::SourceMissing, "gone"))),
        (
            "a detail without end",
            TRANSCODE,
            first(failed(FailureCause::Corrupt, &"x".repeat(5_000))),
        ),
        ("facts longer than the limit", TRANSCODE, with_facts(|f| f.duration_ms = u64::MAX)),
        (
            "a container that steers",
            TRANSCODE,
            with_facts(|f| f.container = "mov\u{1b}[31m".into()),
        ),
        ("a container without end", TRANSCODE, with_facts(|f| f.container = "x".repeat(65))),
        ("a codec with markup", TRANSCODE, with_video(|v| v.codec = "<img>".into())),
        ("a rotation of no camera", TRANSCODE, with_video(|v| v.rotation = 45)),
        ("facts that are no number", TRANSCODE, with_video(|v| v.frame_rate = f64::NAN)),
        ("half a sample", Task::ExtractAudio, first(pcm(0, 31_999))),
        ("no sound", Task::ExtractAudio, first(pcm(0, 0))),
        ("too much sound at once", Task::ExtractAudio, first(pcm(0, 64_002))),
        ("a hole in the sound", Task::ExtractAudio, vec![pcm(0, 32_000), pcm(2 * SECOND, 32_000)]),
        ("sound after the limit", Task::ExtractAudio, first(pcm(75 * SECOND, 32_000))),
        ("a picture off the grid", SAMPLES, vec![frame(0), frame(SECOND)]),
        ("a picture again", SAMPLES, vec![frame(0), frame(0)]),
        (
            "a picture of another size",
            SAMPLES,
            first((Message::Frame { time_us: 0, width: 2, height: 4 }, vec![0; 24])),
        ),
        ("a picture without its bytes", SAMPLES, first(no_bytes(frame(0)))),
        ("sound among pictures", SAMPLES, first(pcm(0, 32_000))),
        ("a second verdict", Task::CheckSegment, {
            let checked = || said(Message::Checked { frames: 1, start_us: 0, duration_us: 1 });
            vec![checked(), checked()]
        }),
        ("a verdict over eternity", Task::CheckSegment, {
            first(said(Message::Checked { frames: 1, start_us: 0, duration_us: i64::MAX }))
        }),
    ]);
}

#[test]
fn it_does_not_say_more_bytes_than_the_output_may_have() {
    let limits = Limits { max_output_bytes: 3_000, ..Limits::default() };
    let request = Request { limits, ..request(TRANSCODE) };
    let mut conversation = Conversation::new(&request);
    let said = opening();
    let passed = said.iter().take_while(|(message, payload)| {
        conversation.hear(message, payload, Duration::ZERO).is_ok()
    });
    assert_eq!(
        passed.count(),
        5,
        "two init segments and one segment have 2,824 bytes with the poster"
    );
}

#[test]
fn progress_is_not_said_endlessly() {
    let flood: Said = (0..10_000).map(|_| progress(1, 2)).collect();
    let (passed, breach) = heard(&TRANSCODE, &flood);
    assert!(breach.is_some() && passed < 100, "{passed}");
}
