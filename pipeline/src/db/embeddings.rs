//! Which videos look alike: an exact search over one owner's vectors.
//!
//! Rows are scored as they come, so memory holds the best few only. At 256 bytes a vector an index would gain nothing
//! below some hundred thousand videos of one owner. Vectors are written by the commit of their job, not here.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use futures_util::TryStreamExt;

use super::bounded::DEADLINE;
use super::{Db, DbError, answered};
use crate::video::{OwnerId, VideoId};

/// A vector as its row has it: component = signed byte x scale.
#[derive(sqlx::FromRow)]
struct Row {
    video_id: uuid::Uuid,
    scale: f32,
    vector: Vec<u8>,
}

/// A video and its likeness, ordered so that a heap's greatest is the least alike.
struct Likeness {
    video: VideoId,
    cosine: f32,
}

impl Db {
    /// The videos of the same owner that look most like this one, best first, with the cosine of their vectors: 1 is
    /// the same look. `None` when this owner has no such video, or the video has no vector (yet). Only videos that are
    /// being processed or ready are found: what failed or goes is not shown.
    pub async fn similar(
        &self,
        owner: OwnerId,
        video: VideoId,
        limit: usize,
    ) -> Result<Option<Vec<(VideoId, f32)>>, DbError> {
        let Some((engine, model, dims, wanted)) = self.newest_vector(owner, video).await? else {
            return Ok(None);
        };
        let mut connection = self.connections.take().await?;
        let mut rows = sqlx::query_as::<_, Row>(
            "select e.video_id, e.scale, e.vector
               from embeddings e
               join videos v on v.id = e.video_id
              where e.owner_id = $1 and e.engine = $2 and e.model = $3 and e.dims = $4
                and e.video_id <> $5 and v.state in ('processing', 'ready')",
        )
        .bind(owner.0)
        .bind(engine)
        .bind(model)
        .bind(dims)
        .bind(video.0)
        .fetch(connection.get());
        let best = async {
            let mut best = BinaryHeap::with_capacity(limit + 1);
            while let Some(row) = rows.try_next().await? {
                best.push(Likeness {
                    video: VideoId(row.video_id),
                    cosine: cosine(&wanted, &row)?,
                });
                if best.len() > limit {
                    best.pop();
                }
            }
            Ok::<_, DbError>(best)
        };
        // Not on the bounded pool: that would hold all rows at once.
        let sorted = answered(DEADLINE, best).await?.into_sorted_vec();
        Ok(Some(sorted.into_iter().map(|found| (found.video, found.cosine)).collect()))
    }

    /// The video's vector of its latest engine and model.
    async fn newest_vector(
        &self,
        owner: OwnerId,
        video: VideoId,
    ) -> Result<Option<(String, String, i16, Row)>, DbError> {
        let found: Option<(String, String, i16, f32, Vec<u8>)> = sqlx::query_as(
            "select engine, model, dims, scale, vector
               from embeddings
              where owner_id = $1 and video_id = $2
              order by created_at desc, engine, model
              limit 1",
        )
        .bind(owner.0)
        .bind(video.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(found.map(|(engine, model, dims, scale, vector)| {
            (engine, model, dims, Row { video_id: video.0, scale, vector })
        }))
    }
}

/// Both vectors have length 1, so their product is the cosine.
#[expect(clippy::cast_precision_loss, reason = "a sum of 256 products of bytes is exact in f32")]
fn cosine(a: &Row, b: &Row) -> Result<f32, DbError> {
    if a.vector.len() != b.vector.len() {
        return Err(DbError::BadRow {
            table: "embeddings",
            detail: format!("the vector of {} has {} bytes", b.video_id, b.vector.len()),
        });
    }
    let products = a
        .vector
        .iter()
        .zip(&b.vector)
        .map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed()));
    Ok((products.sum::<i32>() as f32 * a.scale * b.scale).clamp(-1.0, 1.0))
}

impl Ord for Likeness {
    fn cmp(&self, other: &Self) -> Ordering {
        // Equal likeness: the younger video first, so that the order never depends on the scan.
        other.cosine.total_cmp(&self.cosine).then_with(|| other.video.cmp(&self.video))
    }
}

impl PartialOrd for Likeness {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Likeness {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Likeness {}
