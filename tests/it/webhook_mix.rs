//! Everything that may call the webhook, at once: duplicates, replays, events out of order, garbage, bodies without end,
//! callers without the token. Each gets its status, and the rows are those of the objects.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::http_server::{HttpServer, WEBHOOK_TOKEN, World};

const CALLS: u64 = 1_000;
/// Fewer than the 64 that may be on their way at once: here nobody is told to come again.
const AT_ONCE: usize = 32;
const SEED: u64 = 20_261_124;

#[derive(Debug, Clone)]
struct Call {
    body: String,
    token: Option<&'static str>,
    status: StatusCode,
}

/// The same numbers on each run: a mix that fails can be looked at again.
struct Numbers(u64);

impl Numbers {
    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Of a key's version; a later version has a later sequencer, whenever it arrives.
fn event(key: u64, version: u64) -> String {
    let name = "s3:ObjectCreated:Put";
    json!({
        "EventName": name,
        "Key": format!("clipstream/raw-uploads/{key}.mp4"),
        "Records": [{
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "eventTime": "2026-11-21T02:03:04.123Z",
            "eventName": name,
            "s3": {
                "bucket": { "name": "clipstream", "arn": "arn:aws:s3:::clipstream" },
                "object": {
                    "key": format!("raw-uploads%2F{key}.mp4"), "size": 1_000 + key,
                    "eTag": format!("{key:016x}{version:016x}"), "contentType": "video/mp4",
                    "sequencer": format!("1879F0A1B2C3{version:04X}"),
                },
            },
        }],
    })
    .to_string()
}

struct Mix {
    calls: Vec<Call>,
    objects: BTreeSet<(u64, u64)>,
    unusable: BTreeSet<String>,
}

fn mix() -> Mix {
    let mut numbers = Numbers(SEED);
    let (mut calls, mut objects, mut unusable) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for number in 0..CALLS {
        let (key, version) = (numbers.below(150), numbers.below(3));
        let call = |body, token, status| Call { body, token, status };
        let right = Some(WEBHOOK_TOKEN);
        calls.push(match numbers.below(100) {
            0..70 => {
                objects.insert((key, version));
                call(event(key, version), right, StatusCode::OK)
            }
            70..80 => {
                let garbage = ["{", "[1, 2]", "\u{0}\u{1}", "null", "{\"Records\": 3}"];
                let body = format!(
                    "{}{}",
                    garbage[usize::try_from(key % 5).expect("small")],
                    " ".repeat(usize::try_from(version).expect("small"))
                );
                unusable.insert(body.clone());
                call(body, right, StatusCode::OK)
            }
            80..82 => {
                // Kept in part, by its beginning.
                let body = format!("{number}{}", "x".repeat(1_200_000));
                unusable.insert(body[..1024 * 1024].to_owned());
                call(body, right, StatusCode::OK)
            }
            82..85 => call(String::new(), right, StatusCode::OK),
            85..88 => {
                let body =
                    event(key, version).replace("s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete");
                call(body, right, StatusCode::OK)
            }
            88..94 => call(event(key + 1_000, version), None, StatusCode::UNAUTHORIZED),
            _ => call(event(key + 1_000, version), Some("wrong-token"), StatusCode::UNAUTHORIZED),
        });
    }
    Mix { calls, objects, unusable }
}

async fn answered(server: &HttpServer, call: Call) -> (Call, StatusCode) {
    let path = "/webhooks/minio/upload-complete";
    let mut request = server.request(Method::POST, path).body(call.body.clone());
    if let Some(token) = call.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await;
    let answer = answer.unwrap_or_else(|error| panic!("{:.80}: {error}", call.body));
    (call, answer.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_of_every_kind_get_the_right_status_and_leave_the_right_rows() {
    let world = World::new().await;
    let mix = mix();
    let answers: Vec<(Call, StatusCode)> = stream::iter(mix.calls)
        .map(|call| answered(&world.server, call))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let wrong: Vec<String> = answers
        .iter()
        .filter(|(call, status)| call.status != *status)
        .map(|(call, status)| format!("{status} instead of {}: {:.80}", call.status, call.body))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let videos: Vec<(String, String, i64)> = sqlx::query_as(
        "select v.object_key, v.etag, count(j.id) from videos v left join jobs j on j.video_id = v.id
          group by v.id order by 1, 2",
    )
    .fetch_all(&world.pool)
    .await
    .expect("videos");
    let mut wanted: Vec<(String, String, i64)> = mix
        .objects
        .iter()
        .map(|(key, version)| {
            (format!("raw-uploads/{key}.mp4"), format!("{key:016x}{version:016x}"), 1)
        })
        .collect();
    wanted.sort();
    assert_eq!(videos, wanted, "one video and one job for each object version");
    let quarantined: i64 = sqlx::query_scalar("select count(*) from quarantined_events")
        .fetch_one(&world.pool)
        .await
        .expect("a count");
    assert_eq!(usize::try_from(quarantined).expect("a count"), mix.unusable.len());
}
