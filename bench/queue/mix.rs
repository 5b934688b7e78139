//! Everything that may call the webhook at once: duplicates, replays, events out of order, garbage, bodies without end,
//! callers without the token. Each must get its status; how long do the good ones wait for theirs?

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, StatusCode};

use crate::daemon::Daemon;
use crate::services::World;
use crate::waits::Waits;
use crate::webhook_calls::{Call, Token, mix};

pub(crate) const CALLS: u64 = 10_000;
pub(crate) const AT_ONCE: usize = 32;
const SEED: u64 = 20_261_124;

pub(crate) struct Mixed {
    /// Of the calls with the right token, all of which were answered 200.
    pub(crate) accepted: Waits,
    /// Of those that were not let in.
    pub(crate) refused: Waits,
    pub(crate) calls_per_second: f64,
}

/// Fails when an answer has another status than its call must get, or the rows are not those of the objects.
pub(crate) async fn run(world: &World) -> Result<Mixed, Box<dyn Error>> {
    let daemon = Daemon::start(world).await?;
    let client = Client::builder().timeout(Duration::from_secs(10)).build()?;
    let mix = mix(CALLS, SEED);
    let begun = Instant::now();
    let answers: Vec<(StatusCode, f64)> = stream::iter(mix.calls)
        .map(|call| answered(&client, &daemon, call))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let took = begun.elapsed();
    let (videos, jobs, quarantined): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from videos), (select count(*) from jobs), (select count(*) from quarantined_events)",
    )
    .fetch_one(&world.pool)
    .await?;
    let (objects, unusable) =
        (i64::try_from(mix.objects.len())?, i64::try_from(mix.unusable.len())?);
    if (videos, jobs, quarantined) != (objects, objects, unusable) {
        return Err(format!(
            "{objects} objects and {unusable} unusable bodies left {videos} videos, {jobs} jobs and {quarantined} events"
        )
        .into());
    }
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == StatusCode::OK);
    let seconds = |answers: Vec<(StatusCode, f64)>| {
        Waits::new(answers.into_iter().map(|(_, seconds)| seconds).collect())
    };
    Ok(Mixed {
        accepted: seconds(accepted),
        refused: seconds(refused),
        calls_per_second: f64::from(u32::try_from(CALLS)?) / took.as_secs_f64(),
    })
}

async fn answered(
    client: &Client,
    daemon: &Daemon,
    call: Call,
) -> Result<(StatusCode, f64), Box<dyn Error>> {
    let request = client.post(daemon.webhook()).body(call.body);
    let request = match call.token {
        Token::Right => request.bearer_auth(&daemon.token),
        Token::Wrong => request.bearer_auth("wrong-token"),
        Token::None => request,
    };
    let begun = Instant::now();
    let answer = request.send().await?;
    let status = answer.status();
    answer.bytes().await?;
    let seconds = begun.elapsed().as_secs_f64();
    if status == call.status {
        Ok((status, seconds))
    } else {
        Err(format!("{status} instead of {}", call.status).into())
    }
}
