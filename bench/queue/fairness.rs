//! What a crowd costs the others: real workers and the real dispatcher, stages that only take their time. Fifty thousand
//! clips of one owner wait when nine others come with ten each; the waits of those ninety, against theirs without the crowd.

use std::error::Error;
use std::time::Duration;

use futures_util::future::try_join_all;
use pipeline::clock;
use pipeline::db::videos::NewUpload;
use pipeline::db::{Announcer, Db};
use pipeline::event::CreatedObject;
use pipeline::stage::Stage;
use pipeline::video::{OwnerId, VideoId};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::cycles::{self, Work};
use crate::services::World;
use crate::waits::Waits;

pub(crate) const CROWD: i32 = 50_000;
const OTHERS: usize = 9;
const CLIPS_EACH: usize = 10;
/// Slots of each stage, and how long it takes.
const WORK: Work = Work { slots: 8, stage_takes: Duration::from_millis(50) };
/// What one clip alone is picked up after, so many times.
const ALONE: usize = 100;

/// What the ninety saw.
pub(crate) struct Seen {
    /// From a clip's arrival to the claim of its first job.
    pub(crate) begun: Waits,
    /// From its arrival to `ready`.
    pub(crate) ready: Waits,
}

pub(crate) struct Crowded {
    pub(crate) seen: Seen,
    /// The last clip in the crowd's line was given a priority of one, and its first job was claimed after this, in seconds.
    pub(crate) urgent_s: f64,
    /// How many of the crowd were before it then.
    pub(crate) overtaken: i64,
}

/// One clip at a time on workers that have nothing to do: how soon it is picked up.
pub(crate) async fn idle(world: &World) -> Result<Waits, Box<dyn Error>> {
    let owner = owner(&world.pool, "idle").await?;
    let running = cycles::start(world, Work { slots: 8, stage_takes: Duration::ZERO })?;
    for _ in 0..ALONE {
        let video = arrive(&world.db, owner).await?;
        let ready = "select exists (select 1 from videos where id = $1 and state = 'ready')";
        while !sqlx::query_scalar(ready).bind(video.0).fetch_one(&world.pool).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    running.stop().await;
    Ok(seen(&world.pool, &[owner]).await?.begun)
}

/// The ninety have the workers to themselves.
pub(crate) async fn alone(world: &World) -> Result<Seen, Box<dyn Error>> {
    let running = cycles::start(world, WORK)?;
    let seen = others(world).await?;
    running.stop().await;
    Ok(seen)
}

/// The ninety come when the crowd has been at work for a while.
pub(crate) async fn crowded(world: &World) -> Result<Crowded, Box<dyn Error>> {
    let noisy = owner(&world.pool, "noisy").await?;
    crowd(&world.pool, noisy).await?;
    let running = cycles::start(world, WORK)?;
    let busy = "select count(*) >= 100 from videos where state = 'ready'";
    while !sqlx::query_scalar(busy).fetch_one(&world.pool).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = others(world).await?;
    let (urgent_s, overtaken) = urgent(world).await?;
    running.stop().await;
    Ok(Crowded { seen, urgent_s, overtaken })
}

async fn others(world: &World) -> Result<Seen, Box<dyn Error>> {
    let mut owners = Vec::new();
    for number in 0..OTHERS {
        owners.push(owner(&world.pool, &format!("other {number}")).await?);
    }
    let arrivals = owners.iter().flat_map(|&owner| (0..CLIPS_EACH).map(move |_| owner));
    try_join_all(arrivals.map(|owner| arrive(&world.db, owner))).await?;
    let open = "select exists (select 1 from videos where owner_id = any($1) and state <> 'ready')";
    let ids: Vec<uuid::Uuid> = owners.iter().map(|owner| owner.0).collect();
    while sqlx::query_scalar(open).bind(&ids).fetch_one(&world.pool).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen(&world.pool, &owners).await
}

async fn seen(pool: &PgPool, owners: &[OwnerId]) -> Result<Seen, Box<dyn Error>> {
    let ids: Vec<uuid::Uuid> = owners.iter().map(|owner| owner.0).collect();
    let rows: Vec<(f64, f64)> = sqlx::query_as(
        "select extract(epoch from j.started_at - v.uploaded_at)::float8,
                extract(epoch from v.processed_at - v.uploaded_at)::float8
           from videos v join jobs j on j.video_id = v.id and j.stage = $2
          where v.owner_id = any($1)",
    )
    .bind(&ids)
    .bind(Stage::DuplicateDetection.as_str())
    .fetch_all(pool)
    .await?;
    let (begun, ready) = rows.into_iter().unzip();
    Ok(Seen { begun: Waits::new(begun), ready: Waits::new(ready) })
}

async fn owner(pool: &PgPool, name: &str) -> Result<OwnerId, sqlx::Error> {
    let owner = OwnerId::new();
    sqlx::query("insert into owners (id, name) values ($1, $2)")
        .bind(owner.0)
        .bind(name)
        .execute(pool)
        .await?;
    Ok(owner)
}

/// A clip as its owner uploads it: the row of the API, then the event.
async fn arrive(db: &Db, owner: OwnerId) -> Result<VideoId, Box<dyn Error>> {
    let video = VideoId::new();
    let key = format!("raw-uploads/{video}.mp4");
    db.create_upload(&NewUpload {
        video,
        owner,
        bucket: "clipstream".to_owned(),
        key: key.clone(),
        filename: "clip.mp4".to_owned(),
        title: None,
        stream_id: None,
        content_type: "video/mp4".to_owned(),
        size_bytes: 4,
        expires_at: clock::now() + Duration::from_hours(1),
    })
    .await?;
    let object = CreatedObject {
        bucket: "clipstream".to_owned(),
        key,
        etag: Some(video.to_string()),
        version_id: None,
        size_bytes: 4,
        content_type: None,
        sequencer: None,
    };
    Ok(db.accept_object(&object, Announcer::Webhook).await?.video)
}

/// As [`arrive`] leaves them, in one statement.
async fn crowd(pool: &PgPool, owner: OwnerId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with v as (
           insert into videos (id, owner_id, bucket, object_key, identity, etag, size_bytes,
                               announced_by, state, uploaded_at)
           select gen_random_uuid(), $1, 'clipstream', 'raw-uploads/' || n || '.mp4', 'etag:' || n, n, 4,
                  'webhook', 'processing', now()
             from generate_series(1, $2) n
           returning id)
         insert into jobs (id, video_id, owner_id, stage)
         select gen_random_uuid(), id, $1, 'duplicate_detection' from v",
    )
    .bind(owner.0)
    .bind(CROWD)
    .execute(pool)
    .await?;
    sqlx::query("analyze videos, jobs").execute(pool).await?;
    Ok(())
}

/// Gives the last of the crowd's line a priority, and waits for its claim.
async fn urgent(world: &World) -> Result<(f64, i64), Box<dyn Error>> {
    let waits = "stage = 'duplicate_detection' and state = 'pending' and dispatched_at is null";
    let (video, before): (uuid::Uuid, i64) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select video_id, (select count(*) - 1 from jobs where {waits})
           from jobs where {waits} order by line_time(run_at, priority) desc, id desc limit 1"
    )))
    .fetch_one(&world.pool)
    .await?;
    let asked: OffsetDateTime =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&world.pool).await?;
    world.db.set_priority(VideoId(video), 1).await?;
    loop {
        let begun: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from started_at - $2)::float8 from jobs
              where video_id = $1 and stage = 'duplicate_detection'",
        )
        .bind(video)
        .bind(asked)
        .fetch_one(&world.pool)
        .await?;
        if let Some(seconds) = begun {
            return Ok((seconds, before));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
