//! Videos that look alike, found in Postgres.

use pipeline::video::{OwnerId, VideoId};
use sqlx::PgPool;

use crate::support;

struct World {
    pool: PgPool,
    stranger: OwnerId,
}

impl World {
    async fn new(pool: &PgPool) -> Self {
        let stranger = OwnerId::new();
        sqlx::query("insert into owners (id, name) values ($1, 'stranger')")
            .bind(stranger.0)
            .execute(pool)
            .await
            .expect("an owner");
        Self { pool: pool.clone(), stranger }
    }

    async fn video(&self, owner: OwnerId, state: &str) -> VideoId {
        let video = VideoId::new();
        sqlx::query(
            "insert into videos (id, owner_id, bucket, object_key, announced_by, state, failure_cause)
             values ($1, $2, 'clipstream', $3, 'api', $4, case when $4 = 'failed' then 'corrupt' end)",
        )
        .bind(video.0)
        .bind(owner.0)
        .bind(format!("raw-uploads/{video}.mp4"))
        .bind(state)
        .execute(&self.pool)
        .await
        .expect("a video");
        video
    }

    async fn vector(&self, owner: OwnerId, video: VideoId, model: &str, components: &[i8]) {
        let squares: f32 = components.iter().map(|&c| f32::from(c) * f32::from(c)).sum();
        sqlx::query(
            "insert into embeddings (video_id, engine, model, owner_id, dims, scale, vector, attempt)
             values ($1, 'builtin', $2, $3, $4, $5, $6, 1)",
        )
        .bind(video.0)
        .bind(model)
        .bind(owner.0)
        .bind(i16::try_from(components.len()).expect("short"))
        .bind(1.0 / squares.sqrt())
        .bind(components.iter().map(|c| c.cast_unsigned()).collect::<Vec<u8>>())
        .execute(&self.pool)
        .await
        .expect("a vector");
    }

    /// A ready video of the default owner with a vector of the current model.
    async fn ready(&self, components: &[i8]) -> VideoId {
        let video = self.video(OwnerId::DEFAULT, "ready").await;
        self.vector(OwnerId::DEFAULT, video, "look-1", components).await;
        video
    }
}

#[tokio::test]
async fn the_most_alike_come_first_and_never_the_video_itself() {
    let database = support::database().await;
    let world = World::new(database.pool()).await;
    let video = world.ready(&[100, 0, 0, 0]).await;
    let opposite = world.ready(&[-50, 0, 0, 0]).await;
    let near = world.ready(&[90, 10, 0, 0]).await;
    let same = world.ready(&[3, 0, 0, 0]).await;
    let other = world.ready(&[0, 0, 127, 0]).await;

    let found = database
        .db
        .similar(OwnerId::DEFAULT, video, 10)
        .await
        .expect("a search")
        .expect("a vector");
    let videos: Vec<_> = found.iter().map(|(video, _)| *video).collect();
    assert_eq!(videos, [same, near, other, opposite]);
    let expected = [1.0, 0.993_884, 0.0, -1.0];
    for ((_, cosine), expected) in found.iter().zip(expected) {
        assert!((cosine - expected).abs() < 1e-5, "{found:?}");
    }
    let two =
        database.db.similar(OwnerId::DEFAULT, video, 2).await.expect("a search").expect("a vector");
    assert_eq!(two, found[..2]);
    let none =
        database.db.similar(OwnerId::DEFAULT, video, 0).await.expect("a search").expect("a vector");
    assert!(none.is_empty());
}

#[tokio::test]
async fn what_is_foreign_gone_or_of_another_model_is_never_found() {
    let database = support::database().await;
    let world = World::new(database.pool()).await;
    let video = world.ready(&[100, 0]).await;
    let strangers = world.video(world.stranger, "ready").await;
    world.vector(world.stranger, strangers, "look-1", &[100, 0]).await;
    for state in ["failed", "expired", "deleting"] {
        let gone = world.video(OwnerId::DEFAULT, state).await;
        world.vector(OwnerId::DEFAULT, gone, "look-1", &[100, 0]).await;
    }
    let other_model = world.video(OwnerId::DEFAULT, "ready").await;
    world.vector(OwnerId::DEFAULT, other_model, "look-2", &[100, 0]).await;
    let other_length = world.ready(&[100, 0, 0]).await;

    let similar =
        async |owner, video| database.db.similar(owner, video, 10).await.expect("a search");
    assert_eq!(similar(OwnerId::DEFAULT, video).await, Some(vec![]));
    assert_eq!(similar(OwnerId::DEFAULT, other_length).await, Some(vec![]));
    assert_eq!(similar(world.stranger, video).await, None, "not the stranger's video");
    assert_eq!(similar(OwnerId::DEFAULT, VideoId::new()).await, None, "no such video");
    let without = world.video(OwnerId::DEFAULT, "ready").await;
    assert_eq!(similar(OwnerId::DEFAULT, without).await, None, "no vector yet");
}
