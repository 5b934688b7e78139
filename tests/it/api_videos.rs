//! What `/v1` shows of videos: the listing, a video in each of its states, and those that look alike.

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_server::World;

const DEFAULT_OWNER: &str = "00000000-0000-7000-8000-000000000001";

#[tokio::test]
async fn the_listing_is_newest_first_in_pages_and_by_state() {
    let world = World::new().await;
    let mut videos = Vec::new();
    for _ in 0..5 {
        videos.push(world.announced().await);
    }
    videos.reverse();
    world.sql("update videos set state = 'processing' where id = $1", &videos[2]).await;
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["video_id"].as_str().expect("an id").to_owned()).collect()
    };
    let mut listed = Vec::new();
    let mut sizes = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/videos?limit=2{cursor}");
        let answer = world.server.get(&path, &world.key).send().await.expect("an answer");
        let page: Value = answer.json().await.expect("JSON");
        sizes.push(page["items"].as_array().expect("items").len());
        listed.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(listed, videos);
    assert_eq!(sizes, [2, 2, 1]);
    let path = "/v1/videos?state=processing";
    let answer = world.server.get(path, &world.key).send().await.expect("an answer");
    let page: Value = answer.json().await.expect("JSON");
    assert_eq!(ids(&page), [videos[2].clone()]);
    assert_eq!(page["next_cursor"], Value::Null);
}

const MEDIA: &str = r#"{"container":"mov","duration_ms":2000,"video":null,"audio":null}"#;
const PLAYBACK: &str = r#"{"attempt":1,"duration_ms":2000,"renditions":[{"name":"480p"}]}"#;

/// Makes a video as the pipeline leaves it when all stages are done.
async fn make_ready(world: &World, video: &str) {
    let statement = format!(
        "update videos set state = 'ready', finished_stages = 15, uploaded_at = now(),
                playable_at = now(), processed_at = now(), media = '{MEDIA}', playback = '{PLAYBACK}'
          where id = $1"
    );
    world.sql(&statement, video).await;
    let stages = ["duplicate_detection", "transcode", "speech_to_text", "embeddings"];
    for stage in stages {
        let statement = format!(
            "insert into jobs (id, video_id, owner_id, stage, state, attempt, created_at, started_at, finished_at, result)
             values ('{}', $1, '{DEFAULT_OWNER}', '{stage}', 'done', 1, now() - interval '3 s',
                     now() - interval '2 s', now() - interval '0.5 s', '{{\"status\":\"ok\"}}')",
            Uuid::now_v7()
        );
        world.sql(&statement, video).await;
    }
    for key in [
        format!("thumbnails/{video}.jpg"),
        format!("thumbnails/{video}_processing.jpg"),
        format!("transcripts/{video}.json"),
        format!("embeddings/{video}.json"),
    ] {
        let statement = format!(
            "insert into objects (video_id, key, size_bytes, attempt) values ($1, '{key}', 1, 1)"
        );
        world.sql(&statement, video).await;
    }
}

#[tokio::test]
async fn a_ready_video_shows_what_was_made_of_it() {
    let world = World::new().await;
    let video = world.announced().await;
    make_ready(&world, &video).await;
    let shown = world.show(&video).await;
    assert_eq!(shown["state"], "ready");
    assert_eq!(shown["processing_index"], 0);
    assert_eq!(shown["media"]["duration_ms"], 2000);
    let hls = format!("http://127.0.0.1:9/clipstream/processed-videos/{video}/master.m3u8");
    assert_eq!(shown["playback"]["hls_url"], hls);
    assert_eq!(shown["playback"]["renditions"], json!([{ "name": "480p" }]));
    let poster = format!("http://127.0.0.1:9/clipstream/thumbnails/{video}.jpg");
    // The overlay was for the time of the transcode, which is over.
    assert_eq!(
        shown["thumbnails"],
        json!({ "poster": poster, "processing": null, "duplicate": null })
    );
    let transcript = shown["transcript_url"].as_str().expect("a URL");
    assert!(transcript.contains(&format!("transcripts/{video}.json?")), "{transcript}");
    assert!(transcript.contains("X-Amz-Expires=3600"), "{transcript}");
    assert!(shown["embeddings_url"].is_string());
    assert_eq!(shown["subtitles_url"], Value::Null, "it was never announced");
    let stages = shown["stages"].as_array().expect("stages");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].clone()).collect();
    let order = ["duplicate_detection", "transcode", "speech_to_text", "embeddings"];
    assert_eq!(names, order);
    for stage in stages {
        assert_eq!(stage["state"], "done");
        assert_eq!(stage["attempt"], 1);
        assert_eq!(stage["wait_ms"], 1000);
        assert_eq!(stage["run_ms"], 1500);
        assert_eq!(stage["error"], Value::Null);
        assert_eq!(stage["result"]["status"], "ok");
    }
    for field in ["uploaded_at", "playable_at", "processed_at", "created_at"] {
        assert!(shown[field].is_string(), "{field}");
    }
}

#[tokio::test]
async fn a_duplicate_plays_its_original() {
    let world = World::new().await;
    let original = world.announced().await;
    make_ready(&world, &original).await;
    let duplicate = world.announced().await;
    let statement = format!(
        "update videos set state = 'duplicate', duplicate_of = '{original}', processed_at = now() where id = $1"
    );
    world.sql(&statement, &duplicate).await;
    let statement = format!(
        "insert into objects (video_id, key, size_bytes, attempt)
         values ($1, 'thumbnails/{duplicate}_duplicate.jpg', 1, 1)"
    );
    world.sql(&statement, &duplicate).await;
    let (first, second) = (world.show(&original).await, world.show(&duplicate).await);
    assert_eq!(second["duplicate_of"], original.as_str());
    assert_eq!(second["playback"], first["playback"]);
    assert_eq!(second["media"], first["media"]);
    assert_eq!(second["thumbnails"]["poster"], first["thumbnails"]["poster"]);
    let marker = format!("http://127.0.0.1:9/clipstream/thumbnails/{duplicate}_duplicate.jpg");
    assert_eq!(second["thumbnails"]["duplicate"], marker);
    assert!(second["transcript_url"].as_str().expect("a URL").contains(&original));
}

#[tokio::test]
async fn a_failed_video_says_why_and_plays_nothing() {
    let world = World::new().await;
    let video = world.announced().await;
    let statement =
        "update videos set state = 'failed', failure_cause = 'truncated', playable_at = now(),
                            failure_detail = '3.0 of 10.0 s decoded' where id = $1";
    world.sql(statement, &video).await;
    let shown = world.show(&video).await;
    let failure = json!({ "cause": "truncated", "detail": "3.0 of 10.0 s decoded" });
    assert_eq!(shown["failure"], failure);
    assert_eq!(shown["playback"], Value::Null);
}

#[tokio::test]
async fn links_appear_only_after_the_stage_that_makes_them() {
    let world = World::new().await;
    let video = world.announced().await;
    make_ready(&world, &video).await;
    let running =
        "update jobs set state = 'running', worker = gen_random_uuid(), lease_until = now(),
                          progress = 0.25, finished_at = null, result = null
                    where video_id = $1 and stage <> 'duplicate_detection'";
    world.sql(running, &video).await;
    world
        .sql("update videos set state = 'processing', playback = null where id = $1", &video)
        .await;
    let shown = world.show(&video).await;
    assert_eq!(shown["transcript_url"], Value::Null);
    assert_eq!(shown["embeddings_url"], Value::Null);
    assert!(shown["thumbnails"]["processing"].is_string());
    assert_eq!(shown["playback"]["renditions"], json!([]), "playable, and not complete");
    assert_eq!(shown["stages"][1]["progress"], 0.25);
    assert_eq!(shown["stages"][1]["state"], "running");
}

#[tokio::test]
async fn similar_videos_come_with_their_names_best_first() {
    let world = World::new().await;
    let videos = [world.announced().await, world.announced().await, world.announced().await];
    world.sql("update videos set title = 'Twin' where id = $1", &videos[1]).await;
    let vectors = ["\\x7f00", "\\x7f01", "\\x007f"];
    for (video, vector) in videos.iter().zip(vectors) {
        let statement = format!(
            "insert into embeddings (video_id, engine, model, owner_id, dims, scale, vector, attempt)
             values ($1, 'builtin', 'look-1', '{DEFAULT_OWNER}', 2, 0.00787, '{vector}', 1)"
        );
        world.sql(&statement, video).await;
        world.sql("update videos set state = 'processing' where id = $1", video).await;
    }
    let path = format!("/v1/videos/{}/similar", videos[0]);
    let get = async |path: &str| -> Value {
        let answer = world.server.get(path, &world.key).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.expect("JSON")
    };
    let similar = get(&path).await;
    assert_eq!(similar["embedded"], true);
    let items = similar["items"].as_array().expect("items");
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["video_id"], videos[1].as_str());
    assert_eq!(items[0]["title"], "Twin");
    assert!(items[0]["similarity"].as_f64() > Some(0.99), "{similar}");
    assert_eq!(items[1]["video_id"], videos[2].as_str());
    let one = get(&format!("{path}?limit=1")).await;
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
    let without = world.announced().await;
    let none = get(&format!("/v1/videos/{without}/similar")).await;
    assert_eq!(none, json!({ "video_id": without, "embedded": false, "items": [] }));
}
