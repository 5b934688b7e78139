//! Everything that may call the webhook, at once: duplicates, replays, events out of order, garbage, bodies without end,
//! callers without the token. Each gets its status, and the rows are those of the objects.

use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};

use crate::http_server::{HttpServer, WEBHOOK_TOKEN, World};
use crate::webhook_calls::{Call, Token, mix};

const CALLS: u64 = 1_000;
/// Fewer than the 64 that may be on their way at once: here nobody is told to come again.
const AT_ONCE: usize = 32;
const SEED: u64 = 20_261_124;

async fn answered(server: &HttpServer, call: Call) -> (Call, StatusCode) {
    let path = "/webhooks/minio/upload-complete";
    let mut request = server.request(Method::POST, path).body(call.body.clone());
    request = match call.token {
        Token::Right => request.bearer_auth(WEBHOOK_TOKEN),
        Token::Wrong => request.bearer_auth("wrong-token"),
        Token::None => request,
    };
    let answer = request.send().await;
    let answer = answer.unwrap_or_else(|error| panic!("{:.80}: {error}", call.body));
    (call, answer.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_of_every_kind_get_the_right_status_and_leave_the_right_rows() {
    let world = World::new().await;
    let mix = mix(CALLS, SEED);
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
