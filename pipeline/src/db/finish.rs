//! The fenced commits of stages that ended well: results, next jobs, the video's state, all in one statement.
//! A commit that is not applied changes nothing at all; a crash after it leaves nothing to be done but the LREM.

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::sql::{guard, wake};
use super::{Db, DbError};
use crate::job::{JobId, Lease};
use crate::video::MediaFacts;

/// What became of a fenced write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    Applied,
    /// The row names another attempt, worker or state. Nothing was changed.
    Stale,
}

impl Commit {
    pub(in crate::db) fn of(applied: bool) -> Self {
        if applied { Commit::Applied } else { Commit::Stale }
    }
}

/// What a stage leaves beside "done".
#[derive(Default)]
struct Leaves<'a> {
    result: Option<&'a Value>,
    sha256: Option<[u8; 32]>,
    facts: Option<&'a MediaFacts>,
    playback: Option<&'a Value>,
    engine: Option<&'a str>,
    model: Option<&'a str>,
    vector: Option<(f32, &'a [i8])>,
}

/// `ready` is decided in `set`, from the bits on the locked row: of two stages that end in the same instant the second
/// waits for the first one's commit and then counts its bit. Bits 1 and 2 must be finished, 3 and 4 may be dead.
const FINISH: &str = concat!(
    "with j as (
       update jobs
          set state = 'done', worker = null, lease_until = null, deadline_at = null, progress = 1,
              result = $4, failure_cause = null, last_error = null, finished_at = now()
        where ",
    guard!(),
    " returning id, video_id, owner_id, attempt, priority),
     a as (
       update job_attempts t set ended_at = now(), outcome = 'done'
         from j where t.job_id = j.id and t.attempt = j.attempt),
     v as (
       update videos v
          set finished_stages = v.finished_stages | $5,
              dead_stages = v.dead_stages & ~$5::smallint,
              state = case when v.state = 'processing'
                            and (v.finished_stages | v.dead_stages | $5) = 15
                            and (v.finished_stages | $5) & 3 = 3
                           then 'ready' else v.state end,
              processed_at = case when v.state = 'processing'
                                   and (v.finished_stages | v.dead_stages | $5) = 15
                                   and (v.finished_stages | $5) & 3 = 3
                                  then now() else v.processed_at end,
              sha256 = coalesce(v.sha256, $6),
              original_claim = case when $7 then v.original_claim end,
              media = coalesce($8, v.media),
              playback = coalesce($9, v.playback),
              playable_at = case when $9::jsonb is null then v.playable_at
                                 else coalesce(v.playable_at, now()) end,
              updated_at = now()
         from j where v.id = j.video_id
       returning v.id, v.owner_id, v.state),
     vector as (
       insert into embeddings as e (video_id, engine, model, owner_id, dims, scale, vector, attempt)
       select j.video_id, $12, $13, j.owner_id, octet_length($15), $14, $15, j.attempt
         from j where $15::bytea is not null
       on conflict (video_id, engine, model) do update
          set dims = excluded.dims, scale = excluded.scale, vector = excluded.vector,
              attempt = excluded.attempt, created_at = now()),
     next as (
       insert into jobs (id, video_id, owner_id, stage, priority)
       select s.id, v.id, v.owner_id, s.stage, j.priority
         from v, j, unnest($10::uuid[], $11::text[]) as s(id, stage)
        where v.state = 'processing'
       on conflict (video_id, stage, pipeline) do nothing
       returning id), ",
    wake!(),
    " select (select count(*) from j) = 1,
             exists (select 1 from next) or exists (select 1 from woken)"
);

impl Db {
    /// Duplicate detection found an original: the other stages' jobs are made.
    #[tracing::instrument(name = "db.jobs.complete_original", skip_all, fields(job.id = %lease.job))]
    pub async fn complete_original(
        &self,
        lease: &Lease,
        sha256: Option<[u8; 32]>,
    ) -> Result<Commit, DbError> {
        self.finish(lease, Leaves { sha256, ..Leaves::default() }).await
    }

    /// The renditions are up and verified. The video is playable, if it was not yet.
    #[tracing::instrument(name = "db.jobs.complete_transcode", skip_all, fields(job.id = %lease.job))]
    pub async fn complete_transcode(
        &self,
        lease: &Lease,
        sha256: [u8; 32],
        facts: &MediaFacts,
        playback: &Value,
    ) -> Result<Commit, DbError> {
        let leaves = Leaves {
            sha256: Some(sha256),
            facts: Some(facts),
            playback: Some(playback),
            ..Leaves::default()
        };
        self.finish(lease, leaves).await
    }

    /// The transcript is in storage; `result` is its summary.
    #[tracing::instrument(name = "db.jobs.complete_speech", skip_all, fields(job.id = %lease.job))]
    pub async fn complete_speech(&self, lease: &Lease, result: &Value) -> Result<Commit, DbError> {
        self.finish(lease, Leaves { result: Some(result), ..Leaves::default() }).await
    }

    /// The document is in storage; `vector` is (scale, components), `None` for a video without pictures.
    #[tracing::instrument(name = "db.jobs.complete_embeddings", skip_all, fields(job.id = %lease.job))]
    pub async fn complete_embeddings(
        &self,
        lease: &Lease,
        engine: &str,
        model: &str,
        vector: Option<(f32, &[i8])>,
        result: &Value,
    ) -> Result<Commit, DbError> {
        let leaves = Leaves {
            result: Some(result),
            engine: Some(engine),
            model: Some(model),
            vector,
            ..Leaves::default()
        };
        self.finish(lease, leaves).await
    }

    async fn finish(&self, lease: &Lease, leaves: Leaves<'_>) -> Result<Commit, DbError> {
        match self.try_finish(lease, &leaves, true).await {
            // Somebody else is the original of these very bytes. It takes an original that failed between two claims
            // to get here; both were processed, and this one steps back so that later copies find one original.
            Err(error) if error.is_refusal_by("videos_original_sha256") => {
                self.try_finish(lease, &leaves, false).await
            }
            outcome => outcome,
        }
    }

    async fn try_finish(
        &self,
        lease: &Lease,
        leaves: &Leaves<'_>,
        keeps_claim: bool,
    ) -> Result<Commit, DbError> {
        let (job, attempt, worker) = lease.guard();
        let next = lease.stage.next();
        let ids: Vec<Uuid> = next.iter().map(|_| JobId::new().0).collect();
        let stages: Vec<&str> = next.iter().map(|stage| stage.as_str()).collect();
        let bytes: Option<Vec<u8>> = leaves.vector.map(|(_, components)| {
            components.iter().map(|component| component.cast_unsigned()).collect()
        });
        let (applied, due): (bool, bool) = sqlx::query_as(FINISH)
            .bind(job)
            .bind(attempt)
            .bind(worker)
            .bind(leaves.result)
            .bind(lease.stage.bit())
            .bind(leaves.sha256.as_ref().map(<[u8; 32]>::as_slice))
            .bind(keeps_claim)
            .bind(leaves.facts.map(Json))
            .bind(leaves.playback)
            .bind(ids)
            .bind(stages)
            .bind(leaves.engine)
            .bind(leaves.model)
            .bind(leaves.vector.map(|(scale, _)| scale))
            .bind(bytes)
            .fetch_one(self.pool())
            .await?;
        self.ring(due);
        Ok(Commit::of(applied))
    }
}
