//! What a video costs the network, measured by a proxy before a real MinIO: all stages together, and the first look at a
//! large file whose index is at its end.

use std::sync::Arc;
use std::time::Duration;

use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Message, Request, Task};
use pipeline::media::{Media, MediaConfig};
use pipeline::speech::{Speech, SpeechConfig, SpeechEngine};
use pipeline::stage::Stage;
use pipeline::stages::{self, Outcome, Scratch};
use pipeline::storage::Storage;
use pipeline::video::{SizeClaim, Source, VideoId};

use crate::clips::clip;
use crate::proxy::Proxy;
use crate::s3_client::S3Client;
use crate::speech::vad_model;
use crate::stage_world::{Answers, StageWorld};
use crate::support::clipstream;

const MIB: u64 = 1024 * 1024;

fn media() -> Media {
    Media::new(MediaConfig {
        program: clipstream().to_owned(),
        limits: Limits::default(),
        sandbox: Sandbox::Required,
    })
}

async fn behind_a_proxy(world: &StageWorld) -> (Proxy, Storage) {
    let proxy = Proxy::cutting(&world.storage_config.endpoint, 0, 0).await;
    let mut config = world.storage_config.clone();
    config.endpoint = proxy.endpoint();
    (proxy, Storage::new(&config).expect("usable settings"))
}

/// What is read of what they made themselves is in it: the check of the renditions, listings, headers.
#[tokio::test(flavor = "multi_thread")]
async fn all_stages_together_fetch_a_source_once() {
    let sound = "-f lavfi -i anoisesrc=sample_rate=96000:duration=10:amplitude=0.1 -ac 8";
    let picture = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=10";
    for (name, codecs) in [
        ("index-at-the-end.mov", "-c:v mjpeg -c:a pcm_s24le"),
        ("index-first.mov", "-c:v mjpeg -c:a pcm_s24le -movflags +faststart"),
        ("no-index.mkv", "-c:v mjpeg -c:a pcm_s24le"),
    ] {
        let body = std::fs::read(clip(name, &format!("{picture} {sound} {codecs}")));
        let body = body.expect("the clip");
        let size_bytes = body.len() as u64;
        assert!(size_bytes > 20 * MIB, "{name} has only {size_bytes} bytes");
        let world = StageWorld::new().await;
        let source = world.upload(&body).await;
        let (proxy, storage) = behind_a_proxy(&world).await;
        let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
        let run = async |stage: Stage| {
            // Its size is taken by somebody whose bytes nobody knows: the whole source is hashed first.
            let answers = Answers { size: SizeClaim::Taken(Vec::new()), ..Answers::default() };
            let worked = world.with_worker(answers, async |reports| {
                let mut context = world.context(&source, stage, 1, clipstream(), reports);
                context.tools.storage = storage.clone();
                context.tools.scratch = scratch.clone();
                let speech = SpeechConfig { engine: SpeechEngine::Stub, vad_model: vad_model() };
                context.tools.speech = Arc::new(Speech::new(speech));
                stages::run(stage, &context).await
            });
            worked.await.unwrap_or_else(|error| panic!("{name}: {stage:?}: {error}"))
        };
        run(Stage::DuplicateDetection).await;
        let outcomes =
            tokio::join!(run(Stage::Transcode), run(Stage::SpeechToText), run(Stage::Embeddings));
        assert!(matches!(outcomes.0, Outcome::Transcoded(_)));
        let carried = proxy.carried_bytes();
        eprintln!("{name}: {carried} bytes read for {size_bytes}");
        assert!(carried >= size_bytes, "{name}: all of it was hashed");
        assert!(carried <= size_bytes * 105 / 100, "{name}: {carried} bytes for {size_bytes}");
        drop(scratch);
        assert!(world.scratch_is_empty());
    }
}

/// 2 GB of nothing between the samples of 20 minutes and their index.
async fn upload_large(world: &StageWorld) -> Source {
    let small = std::fs::read(clip(
        "twenty-minutes.mp4",
        "-f lavfi -i color=size=16x16:rate=30:duration=1200 -f lavfi -i sine=duration=1200 \
         -c:v mpeg4 -c:a aac -b:a 32k",
    ));
    let small = small.expect("the clip");
    let index = small.windows(4).rposition(|window| window == b"moov").expect("an index") - 4;
    assert!(index > small.len() / 4, "the index is at the end");
    let (nothing, times) = (vec![0; 64 << 20], 32);
    let part = 5 * MIB;
    let mut first = small[..index].to_vec();
    let padding = part.saturating_sub(first.len() as u64 + 16);
    let free = 16 + padding + nothing.len() as u64 * u64::from(times);
    first.extend([&1_u32.to_be_bytes()[..], b"free", &free.to_be_bytes()].concat());
    first.resize(first.len() + usize::try_from(padding).expect("small"), 0);
    let last = &small[index..];

    let s3 = S3Client::new(&world.storage_config);
    let video = VideoId::new();
    let key = format!("raw-uploads/{video}.mp4");
    s3.put("nothing", &nothing).await;
    s3.compose(&key, &first, "nothing", times, last).await;
    let found = world.storage.head(&key).await.expect("it is there");
    assert!(found.size_bytes > 2_000_000_000, "{}", found.size_bytes);
    Source {
        video,
        key,
        etag: Some(found.etag),
        version_id: None,
        size_bytes: Some(found.size_bytes),
        sha256: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_look_at_two_gigabytes_takes_a_few_blocks() {
    let world = StageWorld::new().await;
    let source = upload_large(&world).await;
    let (proxy, storage) = behind_a_proxy(&world).await;
    let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
    let file = scratch.source(&storage, &source).await.expect("a source");
    let media = media();
    let request = Request { limits: Limits::default(), task: Task::Transcode };
    let started = media.start(request, file.reader(), Duration::from_mins(1)).await;
    let mut child = started.expect("a child");
    let Some((Message::Facts(facts), _)) = child.next().await.expect("a message") else {
        panic!("the facts come first")
    };
    drop(child);
    let carried = proxy.carried_bytes();
    eprintln!("{carried} bytes read of {} for the facts", file.size_bytes());
    assert!(facts.duration_ms.abs_diff(1_200_000) < 100, "{facts:?}");
    assert!(carried <= 16_000_000, "{carried} bytes");
}

/// The first look at a fragmented file reads its beginning, not every fragment's header.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_look_at_a_fragmented_file_takes_its_ends() {
    let world = StageWorld::new().await;
    let body = std::fs::read(clip(
        "fragments.mp4",
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration=40 \
         -f lavfi -i anoisesrc=sample_rate=48000:duration=40 -ac 2 \
         -c:v mjpeg -q:v 2 -c:a aac -movflags +frag_keyframe+empty_moov -frag_duration 1000000",
    ));
    let body = body.expect("the clip");
    assert!(body.len() as u64 > 12 * MIB, "{} bytes", body.len());
    let source = world.upload(&body).await;
    let (proxy, storage) = behind_a_proxy(&world).await;
    let scratch = Scratch::open(world.scratch_root.path().to_owned()).expect("a scratch");
    let file = scratch.source(&storage, &source).await.expect("a source");
    let media = media();
    // Stopped by its pipe: nobody takes its pictures.
    let task = Task::SampleFrames { per_second: 25.0, width: 320, height: 180 };
    let request = Request { limits: Limits::default(), task };
    let started = media.start(request, file.reader(), Duration::from_mins(1)).await;
    let mut child = started.expect("a child");
    assert!(matches!(child.next().await, Ok(Some((Message::Facts(_), _)))));
    drop(child);
    let carried = proxy.carried_bytes();
    eprintln!("{carried} bytes read of {} for the facts", body.len());
    assert!(carried <= 5 * MIB, "{carried} bytes of {}", body.len());
}
