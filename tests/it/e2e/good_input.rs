//! Every kind of honest file ends `ready`, and what was published is opened again and checked.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{clients, end_of, hls_url, stage, upload};
use crate::clips::{H264_AAC, clip, picture_and_tone};
use crate::hls::Published;
use crate::support::{self, TestApp};

/// One frame of the slowest clip here, plus the priming of AAC.
const TOLERANCE: f64 = 0.07;

async fn published(video: &Value) -> Published {
    assert_eq!(video["state"], "ready", "{video:#}");
    Published::read(&hls_url(video)).await
}

fn names(published: &Published) -> Vec<&str> {
    published.renditions.keys().map(String::as_str).collect()
}

async fn upload_recipe(app: &TestApp, name: &str, recipe: &str) -> Published {
    published(&upload(app, &clip(name, recipe)).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_1080p_clip_by_curl_becomes_three_rungs_a_poster_a_transcript_and_a_vector() {
    let app = support::app().await;
    let recipe = format!("{} {H264_AAC}", picture_and_tone("1920x1080", "30", 6.0));
    let video = upload(&app, &clip("1080p.mp4", &recipe)).await;

    let published = published(&video).await;
    published.assert_sound(6.0, TOLERANCE);
    assert_eq!(names(&published), ["1080p", "480p", "720p", "audio"]);
    let sizes: Vec<_> =
        published.pictures().iter().map(|(_, picture)| picture.dimensions()).collect();
    assert_eq!(sizes, [(854, 480), (1280, 720), (1920, 1080)]);

    for name in ["duplicate_detection", "transcode", "speech_to_text", "embeddings"] {
        assert_eq!(stage(&video, name)["state"], "done", "{video:#}");
    }
    assert_eq!(video["processing_index"], 0);
    assert!(video["processed_at"].is_string() && video["playable_at"].is_string(), "{video:#}");

    let get = |url: &Value| reqwest::get(url.as_str().expect("a URL").to_owned());
    let poster = get(&video["thumbnails"]["poster"])
        .await
        .expect("an answer")
        .bytes()
        .await
        .expect("a body");
    assert!(poster.starts_with(&[0xff, 0xd8]), "the poster is no JPEG");
    let transcript: Value =
        get(&video["transcript_url"]).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(transcript["schema"], "clipstream.transcript/1");
    let embeddings: Value =
        get(&video["embeddings_url"]).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(embeddings["video"].as_array().map(Vec::len), Some(256));

    assert_bucket_is_what_the_table_says(&app, &video).await;
}

/// Every object of ours is in `objects`, with its size; and the overlay of the running transcode is gone.
async fn assert_bucket_is_what_the_table_says(app: &TestApp, video: &Value) {
    let id = video["video_id"].as_str().expect("an id");
    let listed: Vec<(String, i64)> = sqlx::query_as(
        "select key, size_bytes from objects where video_id = $1::uuid order by key",
    )
    .bind(id)
    .fetch_all(&app.pool)
    .await
    .expect("a query");
    // It goes after the commit that we heard of.
    let processing = format!("thumbnails/{id}_processing.jpg");
    let begun = Instant::now();
    while app.storage.head(&processing).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{processing} stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut stored = Vec::new();
    for prefix in ["processed-videos/", "thumbnails/", "transcripts/", "embeddings/"] {
        let page = app.storage.list(&format!("{prefix}{id}"), "", 1000).await.expect("a listing");
        stored.extend(page.into_iter().map(|object| (object.key, object.size_bytes.cast_signed())));
    }
    stored.sort();
    for object in &stored {
        assert!(listed.contains(object), "{object:?} is in the bucket and not in the table");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portrait_clip_with_rotation_put_by_mc_under_an_odd_name_stands_upright() {
    let app = support::app().await;
    let upright =
        clip("landscape.mp4", &format!("{} {H264_AAC}", picture_and_tone("1280x720", "25", 3.0)));
    // The container says: turn by 90 degrees.
    let turned =
        clip("turned.mp4", &format!("-i {} -c copy -metadata:s:v rotate=270", upright.display()));
    let key = "raw-uploads/ü +&# 100 %.mp4";
    clients::put_with_mc(&app, &turned, key).await;

    let id = clients::video_of_key(&app, key).await;
    let published = published(&end_of(&app, id).await).await;
    published.assert_sound(3.0, TOLERANCE);
    let sizes: Vec<_> =
        published.pictures().iter().map(|(_, picture)| picture.dimensions()).collect();
    assert_eq!(sizes, [(480, 854), (720, 1280)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_odd_sizes_keep_their_size_and_become_even() {
    let app = support::app().await;
    let small = format!("{} {H264_AAC}", picture_and_tone("320x240", "30", 3.0));
    let small = upload_recipe(&app, "small.mp4", &small).await;
    small.assert_sound(3.0, TOLERANCE);
    assert_eq!(names(&small), ["480p", "audio"]);
    assert_eq!(small.renditions["480p"].dimensions(), (320, 240));

    let odd = "-f lavfi -i testsrc2=size=427x241:rate=24:duration=3 -c:v libx264 -pix_fmt yuv444p -preset ultrafast";
    let odd = upload_recipe(&app, "odd.mp4", odd).await;
    odd.assert_sound(3.0, TOLERANCE);
    assert_eq!(names(&odd), ["480p"], "a clip without sound has no sound rendition");
    let (width, height) = odd.renditions["480p"].dimensions();
    assert!(width % 2 == 0 && height % 2 == 0, "{width}x{height}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_is_playable_too() {
    let app = support::app().await;
    let recipe = "-f lavfi -i sine=frequency=300:sample_rate=44100:duration=5 -c:a libmp3lame";
    let sound = clip("sound.mp3", recipe);
    clients::put_with_boto3(&app, &sound, "raw-uploads/by boto3/sound.mp3").await;
    let id = clients::video_of_key(&app, "raw-uploads/by boto3/sound.mp3").await;
    let video = end_of(&app, id).await;
    assert_eq!(video["state"], "ready", "{video:#}");
    let published = Published::read(&hls_url(&video)).await;
    assert_eq!(names(&published), ["audio"]);
    published.assert_sound(5.0, TOLERANCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_codecs_and_irregular_time_stamps_play_right() {
    let app = support::app().await;

    let hevc = "-f lavfi -i testsrc2=size=640x480:rate=30:duration=3 -c:v libx265 -preset ultrafast -x265-params log-level=error -pix_fmt yuv420p10le";
    upload_recipe(&app, "hevc10.mp4", hevc).await.assert_sound(3.0, TOLERANCE);

    let vp9 = format!(
        "{} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus -shortest",
        picture_and_tone("640x360", "30", 3.0)
    );
    upload_recipe(&app, "vp9.webm", &vp9).await.assert_sound(3.0, TOLERANCE);

    // Every third frame is missing in the first two seconds: the times that remain are kept.
    let vfr = "-f lavfi -i testsrc2=size=640x480:rate=30:duration=5 -vf select='gt(t,2)+mod(n,3)' -vsync vfr -c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    let vfr = upload_recipe(&app, "vfr.mp4", vfr).await;
    vfr.assert_sound(5.0, TOLERANCE);
    let frames = vfr.renditions["480p"].packets.len();
    assert!((125..=132).contains(&frames), "{frames} frames: the rate was made constant");

    let frame =
        "-f lavfi -i testsrc2=size=640x480:rate=25 -frames:v 1 -c:v libx264 -pix_fmt yuv420p";
    let frame = upload_recipe(&app, "frame.mp4", frame).await;
    assert_eq!(frame.renditions["480p"].packets.len(), 1);
}

/// Luma in the middle of the lowest rung's first picture, as a player decodes it.
fn first_luma(published: &Published) -> u8 {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", published.renditions["480p"].url.as_str()])
        .args(["-frames:v", "1", "-vf", "crop=2:2", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .expect("ffmpeg is on the PATH: make test installs it");
    output.stdout[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_phones_cameras_and_music_shops_make_plays_right() {
    let app = support::app().await;
    // White of a page in HDR10, 203 nits: the 10-bit sample 573.
    let hdr = clip(
        "hdr10.mp4",
        "-f lavfi -i color=black:s=640x480:r=25:d=3,format=yuv420p10le,geq=lum=573:cb=512:cr=512 -c:v libx265 -preset ultrafast -x265-params log-level=error -color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc",
    );
    let woven = clip(
        "interlaced.ts",
        "-f lavfi -i testsrc2=720x576:r=50:d=3,interlace -f lavfi -i sine=440:d=3 -c:v mpeg2video -flags +ilme+ildct -b:v 4M -c:a ac3",
    );
    let song = clip(
        "song.m4a",
        "-f lavfi -i sine=440:d=3 -f lavfi -i color=red:s=600x600:r=25:d=0.04 -map 0 -map 1 -c:a aac -c:v mjpeg -disposition:v attached_pic",
    );
    let (hdr, woven, song) =
        tokio::join!(upload(&app, &hdr), upload(&app, &woven), upload(&app, &song));

    for video in [&hdr, &woven] {
        assert_eq!(stage(video, "embeddings")["state"], "done", "{video:#}");
    }
    let hdr = published(&hdr).await;
    hdr.assert_sound(3.0, TOLERANCE);
    let luma = first_luma(&hdr);
    assert!((174..=190).contains(&luma), "HDR was not tone mapped: {luma}");
    let woven = published(&woven).await;
    // The last frame of the source's sound is padded, and so is ours.
    woven.assert_sound(3.0, TOLERANCE + 0.03);
    assert_eq!(woven.renditions["480p"].packets.len(), 75, "one picture for two fields");
    let song = published(&song).await;
    song.assert_sound(3.0, TOLERANCE + 0.03);
    assert_eq!(names(&song), ["audio"], "a cover is no video");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_again_are_a_duplicate_that_plays_the_original() {
    let app = support::app().await;
    let file = clip("twice.mp4", &format!("{} {H264_AAC}", picture_and_tone("640x480", "30", 2.0)));
    // In the same instant, and once more when all is done.
    let (first, second) = tokio::join!(upload(&app, &file), upload(&app, &file));
    let third = upload(&app, &file).await;

    let (original, copy) =
        if first["state"] == "ready" { (first, second) } else { (second, first) };
    assert_eq!(original["state"], "ready", "{original:#}");
    for copy in [copy, third] {
        assert_eq!(copy["state"], "duplicate", "{copy:#}");
        assert_eq!(copy["duplicate_of"], original["video_id"]);
        assert_eq!(copy["playback"]["hls_url"], original["playback"]["hls_url"]);
        let marker = copy["thumbnails"]["duplicate"].as_str().expect("a marker thumbnail");
        assert_eq!(reqwest::get(marker).await.expect("an answer").status(), 200);
    }
    let transcodes: i64 = sqlx::query_scalar("select count(*) from jobs where stage = 'transcode'")
        .fetch_one(&app.pool)
        .await
        .expect("a query");
    assert_eq!(transcodes, 1, "only the original is transcoded");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_are_playable_long_before_they_are_ready() {
    let app = support::app().await;
    let recipe = "-f lavfi -i testsrc=size=854x480:rate=15:duration=600 -c:v libx264 -preset ultrafast -crf 30 -pix_fmt yuv420p";
    let id = clients::announce_and_put(&app, &clip("ten-minutes.mp4", recipe)).await;
    let playable =
        super::wait_for(&app, id, "playable", |video| video["playable_at"].is_string()).await;
    assert_eq!(playable["state"], "processing", "{playable:#}");
    let published = Published::read_growing(&hls_url(&playable)).await;
    assert!(!published.end_list, "the first playlist must say that more comes");

    let ready = end_of(&app, id).await;
    assert_eq!(ready["state"], "ready", "{ready:#}");
    let waited = |from: &str, to: &str| -> f64 {
        let at = |field: &str| {
            let text = ready[field].as_str().expect("a time");
            let format = &time::format_description::well_known::Rfc3339;
            time::OffsetDateTime::parse(text, format).expect("RFC 3339")
        };
        (at(to) - at(from)).as_seconds_f64()
    };
    let (playable, ready) =
        (waited("uploaded_at", "playable_at"), waited("uploaded_at", "processed_at"));
    assert!(playable * 4.0 < ready, "playable after {playable} s, ready after {ready} s");
}
