//! What viewers see of a transcode: published as it grows, never shortened, subtitles in every order, proven before
//! it counts. The child is scripted, so that each moment can be held and looked at; the storage is real.

use std::fs;
use std::process::Command;
use std::time::Duration;

use m3u8_rs::{MasterPlaylist, MediaPlaylist};
use pipeline::media::protocol::{Message, RenditionKind};
use pipeline::stage::Stage;
use pipeline::stages::publish::add_subtitles;
use pipeline::stages::{Outcome, StageError, Transcoded};
use pipeline::storage::{Precondition, Storage, StorageKey};
use pipeline::video::{FailureCause, Source, VideoId};

use crate::proxy::Proxy;
use crate::scripted_child::{ScriptedChild, done};
use crate::stage_world::{Answers, StageWorld};
use crate::support::clipstream;

fn segment(rendition: &str, number: u32) -> Message {
    let (start_us, duration_us) = (i64::from(number - 1) * 2_000_000, 2_000_000);
    Message::Segment { rendition: rendition.into(), number, start_us, duration_us }
}

/// Says what a child says until the first segments are closed.
fn opening(child: ScriptedChild) -> ScriptedChild {
    let video = RenditionKind::Video { width: 854, height: 480, frame_rate: 25.0 };
    let audio = RenditionKind::Audio { channels: 2, sample_rate: 48_000 };
    let init = |rendition: &str, codecs: &str, kind| Message::Init {
        rendition: rendition.into(),
        codecs: codecs.into(),
        kind,
        planned_bits_per_second: 1_000_000,
    };
    child
        .says(&Message::Poster { width: 64, height: 48 }, &[180; 64 * 48 * 3])
        .says(&init("480p", "avc1.64001e", video), b"init of 480p")
        .says(&init("audio", "mp4a.40.2", audio), b"init of audio")
        .says(&segment("480p", 1), &vec![1; 50_000])
        .says(&segment("audio", 1), &[2; 8_000])
}

/// And what it says until the end of four seconds.
fn ending(child: ScriptedChild) -> ScriptedChild {
    child
        .says(&segment("480p", 2), &vec![3; 100_000])
        .says(&segment("audio", 2), &[4; 8_000])
        .says(&done(4_000), b"")
}

async fn transcode(
    world: &StageWorld,
    source: &Source,
    attempt: i32,
    child: &ScriptedChild,
) -> Result<Transcoded, StageError> {
    let program = child.program();
    match world.run(source, Stage::Transcode, attempt, &program, Answers::default()).await? {
        Outcome::Transcoded(transcoded) => Ok(transcoded),
        other => panic!("{other:?}"),
    }
}

async fn master(world: &StageWorld, video: VideoId) -> Option<MasterPlaylist> {
    let text = world.text(&StorageKey::MasterPlaylist { video }).await?;
    Some(m3u8_rs::parse_master_playlist_res(text.as_bytes()).expect("a master"))
}

async fn playlist(world: &StageWorld, video: VideoId, rendition: &str) -> Option<MediaPlaylist> {
    let key = StorageKey::MediaPlaylist { video, rendition: rendition.into() };
    let text = world.text(&key).await?;
    Some(m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist"))
}

async fn until_playable(world: &StageWorld) {
    let wait = async {
        while world.heard().playable == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("playable in time");
}

/// What speech-to-text does once it has text.
async fn subtitle(world: &StageWorld, source: &Source) {
    let vtt = "WEBVTT\n\n00:00:00.500 --> 00:00:03.250\nhello\n";
    world
        .with_worker(Answers::default(), async |reports| {
            let context =
                world.context(source, Stage::SpeechToText, 4, "/no/media/child".as_ref(), reports);
            let key = StorageKey::SubtitleSegment { video: source.video, attempt: 4 };
            world.storage.put(&key, vtt.into(), &Precondition::None).await.expect("a PUT");
            add_subtitles(&context, Some("en")).await.expect("published subtitles");
        })
        .await;
}

async fn assert_subtitled(world: &StageWorld, video: VideoId) {
    let master = master(world, video).await.expect("a master");
    assert!(!master.variants.is_empty());
    for variant in &master.variants {
        assert_eq!(variant.subtitles.as_deref(), Some("subtitles"), "{variant:?}");
    }
    let lines = master.alternatives.iter().filter(|a| a.language.as_deref() == Some("en"));
    assert_eq!(lines.count(), 1);
    let subtitles = playlist(world, video, "subtitles").await.expect("their playlist");
    assert_eq!(subtitles.segments[0].uri, "segments/4/subtitles/subtitles.vtt");
    assert!((subtitles.segments[0].duration - 3.25).abs() < 1e-6);
}

#[tokio::test]
async fn a_transcode_ends_with_everything_published_and_nothing_left_behind() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let video = source.video;
    let child = ending(opening(ScriptedChild::new()));
    let transcoded = transcode(&world, &source, 1, &child).await.expect("a transcode");

    assert_eq!(transcoded.playback.duration_ms, 4_000);
    let [rung, sound] = &transcoded.playback.renditions[..] else { panic!("two renditions") };
    assert_eq!((rung.name.as_str(), rung.segments, rung.size_bytes), ("480p", 2, 150_000));
    assert_eq!((sound.name.as_str(), sound.segments), ("audio", 2));
    assert_eq!(rung.peak_bits_per_second, 400_000);
    assert_eq!(rung.average_bits_per_second, 300_000);

    let master = master(&world, video).await.expect("a master");
    assert_eq!(master.variants[0].bandwidth, 400_000 + 32_000);
    assert_eq!(master.variants[0].average_bandwidth, Some(300_000 + 32_000));
    for rendition in ["480p", "audio"] {
        let playlist = playlist(&world, video, rendition).await.expect("a playlist");
        assert!(playlist.end_list);
        assert_eq!(playlist.segments.len(), 2);
        let key = StorageKey::Segment { video, attempt: 1, rendition: rendition.into(), number: 2 };
        let stored = world.storage.head(&key.to_string()).await.expect("a segment");
        assert_eq!(stored.content_type.as_deref(), Some("video/iso.segment"));
    }
    let exists = async |key: StorageKey| world.storage.head(&key.to_string()).await.is_ok();
    assert!(exists(StorageKey::Poster { video }).await);
    let processing = exists(StorageKey::ProcessingPoster { video }).await;
    assert!(processing, "only the commit says that it is over");
    assert_eq!(world.heard().playable, 1);
    assert!(world.scratch_is_empty());

    let announced = world.heard().announced.clone();
    let stored = world.storage.list("", "", 1000).await.expect("a listing");
    let ours = stored.into_iter().map(|object| object.key).filter(|key| *key != source.key);
    for key in ours {
        assert!(announced.contains(&key), "{key} was written down before it was there");
    }
}

#[tokio::test]
async fn it_can_be_played_as_soon_as_every_rendition_has_a_segment() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let video = source.video;
    let child = ending(opening(ScriptedChild::new()).waits_for("more"));
    let watch = async {
        until_playable(&world).await;
        let master = master(&world, video).await.expect("a master");
        assert_eq!(master.variants[0].bandwidth, 2_000_000, "as planned");
        for rendition in ["480p", "audio"] {
            let playlist = playlist(&world, video, rendition).await.expect("a playlist");
            assert!(!playlist.end_list);
            assert_eq!(playlist.segments.len(), 1);
        }
        let processing = StorageKey::ProcessingPoster { video }.to_string();
        assert!(world.storage.head(&processing).await.is_ok(), "it is being processed");
        child.allow("more");
    };
    let (transcoded, ()) = tokio::join!(transcode(&world, &source, 1, &child), watch);
    transcoded.expect("a transcode");
    assert_eq!(world.heard().playable, 1, "said once");
}

#[tokio::test]
async fn a_new_attempt_never_shortens_what_is_published() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let first = ending(opening(ScriptedChild::new()));
    transcode(&world, &source, 1, &first).await.expect("the first attempt");
    world.heard().playable = 0;

    let second = ending(opening(ScriptedChild::new()).waits_for("more"));
    let watch = async {
        until_playable(&world).await;
        let published = playlist(&world, source.video, "480p").await.expect("a playlist");
        assert!(published.end_list);
        assert_eq!(published.segments.len(), 2);
        assert_eq!(published.segments[0].uri, "segments/1/480p/00001.m4s", "still the first's");
        second.allow("more");
    };
    let (transcoded, ()) = tokio::join!(transcode(&world, &source, 2, &second), watch);
    transcoded.expect("the second attempt");
    let published = playlist(&world, source.video, "480p").await.expect("a playlist");
    assert_eq!(published.segments[0].uri, "segments/2/480p/00001.m4s", "level, so it took over");
}

#[tokio::test]
async fn an_attempt_that_was_overtaken_changes_nothing() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let newer = ending(opening(ScriptedChild::new()));
    transcode(&world, &source, 2, &newer).await.expect("the newer attempt");
    let key = StorageKey::MasterPlaylist { video: source.video };
    let before = world.text(&key).await;

    let zombie = ending(opening(ScriptedChild::new()));
    let result = transcode(&world, &source, 1, &zombie).await;
    assert!(matches!(result, Err(StageError::LeaseLost)), "{result:?}");
    assert_eq!(world.text(&key).await, before);
    let published = playlist(&world, source.video, "480p").await.expect("a playlist");
    assert_eq!(published.segments[0].uri, "segments/2/480p/00001.m4s");
}

#[tokio::test]
async fn subtitles_reach_the_master_in_every_order() {
    let world = StageWorld::new().await;

    let before = world.upload(b"subtitles before").await;
    subtitle(&world, &before).await;
    let child = ending(opening(ScriptedChild::new()));
    transcode(&world, &before, 1, &child).await.expect("a transcode");
    assert_subtitled(&world, before.video).await;

    let after = world.upload(b"subtitles after").await;
    transcode(&world, &after, 1, &child).await.expect("a transcode");
    subtitle(&world, &after).await;
    subtitle(&world, &after).await;
    assert_subtitled(&world, after.video).await;

    world.heard().playable = 0;
    let between = world.upload(b"subtitles between").await;
    let child = ending(opening(ScriptedChild::new()).waits_for("more"));
    let watch = async {
        until_playable(&world).await;
        subtitle(&world, &between).await;
        assert_subtitled(&world, between.video).await;
        child.allow("more");
    };
    let (transcoded, ()) = tokio::join!(transcode(&world, &between, 1, &child), watch);
    transcoded.expect("a transcode");
    assert_subtitled(&world, between.video).await;
    let master = master(&world, between.video).await.expect("a master");
    assert_eq!(master.variants[0].bandwidth, 400_000 + 32_000, "the final one, not the patched");
}

#[tokio::test]
async fn wherever_a_connection_breaks_what_was_written_is_written() {
    let world = StageWorld::new().await;
    let mut config = world.storage_config.clone();
    for after in (0..6_000).step_by(300) {
        let source = world.upload(format!("cut after {after}").as_bytes()).await;
        let proxy = Proxy::cutting(&world.storage_config.endpoint, after, 1).await;
        config.endpoint = proxy.endpoint();
        let cut = Storage::new(&config).expect("usable settings");
        let key = StorageKey::SubtitleSegment { video: source.video, attempt: 4 };
        let vtt = "WEBVTT\n\n00:00:00.500 --> 00:00:03.250\nhello\n";
        world.storage.put(&key, vtt.into(), &Precondition::None).await.expect("a PUT");
        world
            .with_worker(Answers::default(), async |reports| {
                let program = "/no/media/child".as_ref();
                let mut context = world.context(&source, Stage::SpeechToText, 4, program, reports);
                context.tools.storage = cut;
                let added = add_subtitles(&context, Some("en")).await;
                added.unwrap_or_else(|error| panic!("cut after {after} bytes: {error:?}"));
            })
            .await;
        let subtitles = playlist(&world, source.video, "subtitles").await.expect("their playlist");
        assert_eq!(subtitles.segments.len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_add_up_is_not_a_result() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let child = opening(ScriptedChild::new()).says(&done(9_000), b"");
    let result = transcode(&world, &source, 1, &child).await;
    assert!(
        matches!(&result, Err(StageError::Retry { cause: FailureCause::OutputInvalid, .. })),
        "{result:?}"
    );
    assert!(world.scratch_is_empty());
}

#[tokio::test]
async fn a_child_that_breaks_the_protocol_is_a_crash_and_names_no_key() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let escape = Message::Init {
        rendition: "../../../raw-uploads/x".into(),
        codecs: "avc1.64001e".into(),
        kind: RenditionKind::Audio { channels: 2, sample_rate: 48_000 },
        planned_bits_per_second: 1,
    };
    let injection = Message::Init {
        rendition: "480p".into(),
        codecs: "avc1\"\n#EXT-X-KEY".into(),
        kind: RenditionKind::Audio { channels: 2, sample_rate: 48_000 },
        planned_bits_per_second: 1,
    };
    let scripts = [
        ScriptedChild::new().says(&escape, b"init"),
        ScriptedChild::new().says(&injection, b"init"),
        ScriptedChild::new().says(&segment("480p", 1), b"before its init"),
        opening(ScriptedChild::new()).says(&segment("480p", 3), b"out of turn"),
        ScriptedChild::new().says(&done(1_000), b""),
    ];
    for child in scripts {
        let result = transcode(&world, &source, 1, &child).await;
        assert!(matches!(result, Err(StageError::Crashed(_))), "{result:?}");
    }
    let announced = &world.heard().announced;
    assert!(announced.iter().all(|key| !key.contains("..")), "{announced:?}");
}

#[tokio::test]
async fn a_refusal_and_a_stop_leave_no_sign_of_work() {
    let world = StageWorld::new().await;
    let source = world.upload(b"a source").await;
    let refusal = Message::Failed { cause: FailureCause::Truncated, detail: "half".into() };
    let child = opening(ScriptedChild::new()).says(&refusal, b"");
    let result = transcode(&world, &source, 1, &child).await;
    assert!(
        matches!(&result, Err(StageError::Fail { cause: FailureCause::Truncated, .. })),
        "{result:?}"
    );

    world.heard().playable = 0;
    let child = opening(ScriptedChild::new()).waits_for("never");
    let stop = async {
        until_playable(&world).await;
        world.cancelled.cancel();
    };
    let (result, ()) = tokio::join!(transcode(&world, &source, 2, &child), stop);
    assert!(matches!(result, Err(StageError::Stopped)), "{result:?}");
    assert!(world.scratch_is_empty());
}

#[tokio::test]
async fn a_real_clip_is_decoded_published_and_proven() {
    let world = StageWorld::new().await;
    let clip = world.scratch_root.path().join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=9"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:duration=9", "-c:v", "libx264"])
        .args(["-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(&clip)
        .status()
        .expect("ffmpeg");
    assert!(made.success());
    let source = world.upload(&fs::read(&clip).expect("the clip")).await;

    let outcome = world.run(&source, Stage::Transcode, 1, clipstream(), Answers::default()).await;
    let Ok(Outcome::Transcoded(transcoded)) = outcome else { panic!("{outcome:?}") };

    assert!(transcoded.playback.duration_ms.abs_diff(9_000) <= 50, "{transcoded:?}");
    let names: Vec<_> = transcoded.playback.renditions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        {
            let mut names = names;
            names.sort_unstable();
            names
        },
        ["480p", "720p", "audio"]
    );
    let master = master(&world, source.video).await.expect("a master");
    assert_eq!(master.variants.len(), 2);
    for rendition in ["480p", "720p", "audio"] {
        let playlist = playlist(&world, source.video, rendition).await.expect("a playlist");
        let seconds: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
        assert!((seconds - 9.0).abs() < 0.05, "{rendition}: {seconds}");
    }
    assert_eq!(world.heard().playable, 1);
    assert!(world.scratch_is_empty());
}
