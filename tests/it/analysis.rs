//! Speech-to-text and embeddings on real clips and real storage: what they write, and what another attempt makes of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use pipeline::speech::{Speech, SpeechConfig, SpeechEngine};
use pipeline::stage::Stage;
use pipeline::stages::{self, Embedded, Outcome, StageError, Transcribed};
use pipeline::storage::StorageKey;
use pipeline::video::{FailureCause, Source};
use serde_json::Value;
use url::Url;

use crate::speech::{FOX, vad_model, voice};
use crate::stage_world::{Answers, StageWorld};
use crate::support;

/// Two seconds of silence, then a voice.
const SILENT_MS: f64 = 2_000.0;

/// A clip made by ffmpeg out of inputs and options; `{voice}` stands for a WAV file of [`FOX`].
fn clip(arguments: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let (pcm, mp4) = (directory.path().join("voice.pcm"), directory.path().join("clip.mp4"));
    std::fs::write(&pcm, voice(FOX)).expect("written");
    let arguments = arguments.split_whitespace().map(|argument| match argument {
        "{voice}" => pcm.to_str().expect("a plain path"),
        argument => argument,
    });
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .arg(&mp4)
        .output()
        .expect("ffmpeg is installed by the set-up");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(mp4).expect("the clip")
}

fn spoken_clip() -> Vec<u8> {
    clip(
        "-f lavfi -i testsrc2=s=320x240:r=15:d=8 -f s16le -ar 16000 -ac 1 -i {voice} \
         -af adelay=2000,apad -t 8 -preset ultrafast",
    )
}

async fn attempt(
    world: &StageWorld,
    source: &Source,
    stage: Stage,
    number: i32,
    engine: SpeechEngine,
) -> Result<Outcome, StageError> {
    let config = SpeechConfig { engine, vad_model: vad_model() };
    world
        .with_worker(Answers::default(), async |reports| {
            let mut context = world.context(source, stage, number, support::clipstream(), reports);
            context.tools.speech = Arc::new(Speech::new(config));
            stages::run(stage, &context).await
        })
        .await
}

async fn transcribe(
    world: &StageWorld,
    source: &Source,
    number: i32,
    engine: SpeechEngine,
) -> Transcribed {
    match attempt(world, source, Stage::SpeechToText, number, engine).await {
        Ok(Outcome::Transcribed(transcribed)) => transcribed,
        other => panic!("{other:?}"),
    }
}

async fn embed(world: &StageWorld, source: &Source) -> Embedded {
    match attempt(world, source, Stage::Embeddings, 1, SpeechEngine::Stub).await {
        Ok(Outcome::Embedded(embedded)) => embedded,
        other => panic!("{other:?}"),
    }
}

async fn json(world: &StageWorld, key: &StorageKey) -> Value {
    serde_json::from_str(&world.text(key).await.expect("the document")).expect("JSON")
}

/// Says the same to everybody, and counts.
struct Engine {
    url: Url,
    asked: Arc<AtomicU32>,
}

impl Engine {
    fn that_hears(text: &str) -> Self {
        let segment = serde_json::json!({"start": 0.0, "end": 2.0, "text": text});
        let body = serde_json::json!({"text": text, "language": "english", "segments": [segment]})
            .to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("a client");
                read_request(&connection);
                count.fetch_add(1, Ordering::SeqCst);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                connection.write_all((head + &body).as_bytes()).expect("answered");
            }
        });
        Self { url: url.parse().expect("a URL"), asked }
    }

    fn setting(&self) -> SpeechEngine {
        SpeechEngine::Http {
            base_url: self.url.clone(),
            api_key: None,
            model: "whisper-1".into(),
            language: None,
        }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn read_request(connection: impl Read) {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    reader.read_exact(&mut vec![0; length]).expect("the body");
}

#[tokio::test]
async fn without_an_engine_a_transcript_has_honest_times_and_no_text() {
    let world = StageWorld::new().await;
    let source = world.upload(&spoken_clip()).await;
    let transcribed = transcribe(&world, &source, 1, SpeechEngine::Stub).await;
    assert_eq!((transcribed.status.as_str(), transcribed.engine.as_str()), ("no_engine", "stub"));
    assert_eq!(transcribed.segments, 1);

    let video = source.video;
    let transcript = json(&world, &StorageKey::Transcript { video }).await;
    assert_eq!(transcript["schema"], "clipstream.transcript/1");
    assert_eq!(transcript["status"], "no_engine");
    assert_eq!(transcript["text"], "");
    assert!((transcript["duration"].as_f64().expect("a number") - 8.0).abs() < 0.2, "{transcript}");
    let start = transcript["segments"][0]["start"].as_f64().expect("a number") * 1000.0;
    assert!((start - SILENT_MS).abs() < 400.0, "{transcript}");
    let vtt = world.text(&StorageKey::Subtitles { video }).await;
    assert_eq!(vtt.as_deref(), Some("WEBVTT\n\nNOTE attempt 1\n"));
    let subtitles = StorageKey::MediaPlaylist { video, rendition: "subtitles".into() };
    assert_eq!(world.text(&subtitles).await, None, "nothing to read, no subtitles");
    assert!(world.scratch_is_empty());
    let announced = world.heard().announced.clone();
    assert_eq!(
        announced,
        [format!("transcripts/{video}.json"), format!("transcripts/{video}.vtt")]
    );
}

#[tokio::test]
async fn an_engines_text_becomes_subtitles_and_is_paid_for_once() {
    let world = StageWorld::new().await;
    let source = world.upload(&spoken_clip()).await;
    let video = source.video;
    let engine = Engine::that_hears("The quick <brown> fox.");
    let first = transcribe(&world, &source, 1, engine.setting()).await;
    assert_eq!((first.status.as_str(), first.language.as_deref()), ("ok", Some("en")));
    let vtt = world.text(&StorageKey::Subtitles { video }).await.expect("subtitles");
    assert!(vtt.contains("\nThe quick &lt;brown&gt; fox.\n"), "{vtt}");
    let segment = StorageKey::SubtitleSegment { video, attempt: 1 };
    assert_eq!(world.text(&segment).await.as_deref(), Some(vtt.as_str()));
    let playlist = StorageKey::MediaPlaylist { video, rendition: "subtitles".into() };
    assert!(world.text(&playlist).await.expect("a playlist").contains("segments/1/subtitles"));

    // The first attempt was lost before its commit: the next takes over its text.
    let second = transcribe(&world, &source, 2, engine.setting()).await;
    assert_eq!(second.status, "ok");
    assert_eq!(engine.asked(), 1);
    let transcript = json(&world, &StorageKey::Transcript { video }).await;
    assert_eq!((&transcript["attempt"], &transcript["model"]), (&2.into(), &"whisper-1".into()));
    assert!(world.text(&playlist).await.expect("a playlist").contains("segments/2/subtitles"));

    // A zombie that wakes up afterwards changes nothing.
    let zombie = attempt(&world, &source, Stage::SpeechToText, 1, engine.setting()).await;
    assert!(matches!(zombie, Err(StageError::LeaseLost)), "{zombie:?}");
    assert_eq!(engine.asked(), 1);
    assert_eq!(json(&world, &StorageKey::Transcript { video }).await, transcript);
    assert!(world.text(&playlist).await.expect("a playlist").contains("segments/2/subtitles"));
}

#[tokio::test]
async fn where_nobody_speaks_no_engine_is_asked() {
    let world = StageWorld::new().await;
    let engine = Engine::that_hears("Thanks for watching!");
    let silent =
        "-f lavfi -i testsrc2=s=320x240:r=15:d=3 -f lavfi -i anoisesrc=d=3:a=0.2 -preset ultrafast";
    let mute = "-f lavfi -i testsrc2=s=320x240:r=15:d=3 -preset ultrafast";
    for (status, clip) in [("no_speech", clip(silent)), ("no_audio", clip(mute))] {
        let source = world.upload(&clip).await;
        let transcribed = transcribe(&world, &source, 1, engine.setting()).await;
        assert_eq!(transcribed.status, status);
        assert_eq!(transcribed.segments, 0);
        let transcript = json(&world, &StorageKey::Transcript { video: source.video }).await;
        assert_eq!(transcript["status"], status);
        assert_eq!(transcript["speech_seconds"], 0.0);
    }
    assert_eq!(engine.asked(), 0);
}

#[tokio::test]
async fn an_engine_that_is_not_there_costs_a_try_and_says_why() {
    let world = StageWorld::new().await;
    let source = world.upload(&spoken_clip()).await;
    let error = world
        .run(&source, Stage::SpeechToText, 1, support::clipstream(), Answers::default())
        .await
        .expect_err("this world has no voice model");
    let StageError::Retry { cause: FailureCause::SpeechEngine, detail } = error else {
        panic!("{error:?}");
    };
    assert!(detail.contains("make setup"), "{detail}");
    assert!(world.scratch_is_empty());
}

#[tokio::test]
async fn a_video_has_a_vector_for_itself_and_one_for_each_four_seconds() {
    let world = StageWorld::new().await;
    let clip = clip("-f lavfi -i testsrc2=s=426x240:r=15:d=10 -preset ultrafast");
    let source = world.upload(&clip).await;
    let embedded = embed(&world, &source).await;
    assert_eq!((embedded.engine.as_str(), embedded.model.as_str()), ("builtin", "look-1"));
    assert_eq!(embedded.segments, 3);
    let vector = embedded.vector.expect("pictures");

    let key = StorageKey::Embeddings { video: source.video };
    let document = json(&world, &key).await;
    assert_eq!(document["schema"], "clipstream.embeddings/1");
    assert_eq!((&document["dims"], &document["normalised"]), (&256.into(), &true.into()));
    let numbers = document["video"].as_array().expect("a vector");
    assert_eq!((numbers.len(), vector.components.len()), (256, 256));
    for (number, byte) in numbers.iter().zip(&vector.components) {
        let (number, byte) = (number.as_f64().expect("a number"), f32::from(*byte) * vector.scale);
        assert!((number - f64::from(byte)).abs() < 0.01, "{number} {byte}");
    }
    let segments = document["segments"].as_array().expect("segments");
    let times: Vec<_> = segments.iter().map(|s| (s["start"].as_f64(), s["end"].as_f64())).collect();
    assert_eq!(times, [(Some(0.0), Some(4.0)), (Some(4.0), Some(8.0)), (Some(8.0), Some(10.0))]);
    assert_eq!(segments[0]["frames"], 8);
    assert!(world.scratch_is_empty());

    let again = world.upload(&clip).await;
    assert_eq!(
        embed(&world, &again).await.vector,
        Some(vector),
        "the same pictures, the same bytes"
    );
}

#[tokio::test]
async fn sound_alone_has_no_look_and_says_so() {
    let world = StageWorld::new().await;
    let source = world.upload(&clip("-f lavfi -i sine=d=3")).await;
    let embedded = embed(&world, &source).await;
    assert_eq!((embedded.vector, embedded.segments), (None, 0));
    let document = json(&world, &StorageKey::Embeddings { video: source.video }).await;
    assert_eq!(document["video"], Value::Null);
    assert_eq!(document["segments"], serde_json::json!([]));
    assert_eq!(document["reason"], "the video has no pictures");
}
