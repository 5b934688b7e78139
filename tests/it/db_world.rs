//! Uploaders and workers for whole stories: what they upload, how a worker takes a job to its end, and what must hold
//! once nothing is left to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::db::{Announcer, Commit, Db, DbError, DuplicateCommit, Strike};
use pipeline::event::CreatedObject;
use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::{BytesClaim, FailureCause, SizeClaim, VideoId, VideoState};
use serde_json::json;
use sqlx::PgPool;

use crate::db_actors::{DEADLINE, LEASE, complete, facts, let_time_pass, object};

pub(crate) const MAX_STRIKES: i32 = 3;
const POLL: Duration = Duration::from_hours(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a clip is made of. The first two are of one size.
pub(crate) const CONTENTS: [(u64, [u8; 32]); 3] =
    [(1_000, [1; 32]), (1_000, [2; 32]), (2_000, [3; 32])];

/// The uploaders, and what they uploaded.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) pool: PgPool,
    uploads: Arc<Mutex<Vec<(VideoId, CreatedObject)>>>,
    contents: Arc<Mutex<HashMap<VideoId, usize>>>,
}

impl World {
    pub(crate) fn new(db: &Db, pool: &PgPool) -> Self {
        let (uploads, contents) = (Arc::default(), Arc::default());
        Self { db: db.clone(), pool: pool.clone(), uploads, contents }
    }

    pub(crate) async fn upload(&self, content: usize) {
        let key = format!("raw-uploads/{}.mp4", uuid::Uuid::now_v7());
        let mut object = object(&key, "e");
        object.size_bytes = CONTENTS[content].0;
        let accepted = self.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
        self.contents.lock().expect("no panic").insert(accepted.video, content);
        self.uploads.lock().expect("no panic").push((accepted.video, object));
    }

    /// An event or a listing that tells of it once more.
    pub(crate) async fn tell_again(&self, pick: impl FnOnce(usize) -> usize) {
        let told = {
            let uploads = self.uploads.lock().expect("no panic");
            if uploads.is_empty() {
                return;
            }
            uploads[pick(uploads.len())].clone()
        };
        let again = self.db.accept_object(&told.1, Announcer::Reconcile).await.expect("accepted");
        assert_eq!((again.video, again.created), (told.0, false));
    }

    fn content(&self, video: VideoId) -> (u64, [u8; 32]) {
        CONTENTS[self.contents.lock().expect("no panic")[&video]]
    }

    pub(crate) async fn due(&self, stage: Stage) -> Vec<JobId> {
        self.db.due(stage, 100).await.expect("due")
    }

    pub(crate) async fn claim(&self, job: JobId, lease: Duration) -> Option<Lease> {
        let claim = self.db.claim(job, WorkerId::new(), lease, DEADLINE).await;
        claim.expect("an answer").map(|claim| claim.lease)
    }

    /// Runs a stage to its good end. False: the lease was lost on the way.
    pub(crate) async fn finish(&self, lease: &Lease) -> bool {
        match lease.stage {
            Stage::DuplicateDetection => self.detect(lease).await,
            Stage::Transcode => {
                let (_, sha256) = self.content(lease.video);
                let done = self.db.complete_transcode(lease, sha256, &facts(), &json!({})).await;
                done.expect("an answer") == Commit::Applied
            }
            Stage::SpeechToText | Stage::Embeddings => {
                complete(&self.db, lease).await == Commit::Applied
            }
        }
    }

    async fn detect(&self, lease: &Lease) -> bool {
        let (size, sha256) = self.content(lease.video);
        let candidates = match self.db.claim_size(lease, size).await {
            Ok(SizeClaim::First) => {
                let done = self.db.complete_original(lease, None).await.expect("an answer");
                return done == Commit::Applied;
            }
            Ok(SizeClaim::Taken(candidates)) => candidates,
            Err(error) => return lost(&error),
        };
        let hashes: Vec<_> =
            candidates.iter().map(|c| (c.video, self.content(c.video).1)).collect();
        match self.db.claim_bytes(lease, sha256, &hashes).await {
            Ok(BytesClaim::Original) => {
                let done = self.db.complete_original(lease, Some(sha256)).await;
                done.expect("an answer") == Commit::Applied
            }
            Ok(BytesClaim::HeldBy { original, state: VideoState::Ready }) => {
                match self.db.complete_duplicate(lease, original, sha256).await.expect("an answer")
                {
                    DuplicateCommit::Applied => true,
                    DuplicateCommit::Stale => false,
                    DuplicateCommit::OriginalNotReady => self.wait(lease, original, sha256).await,
                }
            }
            Ok(BytesClaim::HeldBy { original, .. }) => self.wait(lease, original, sha256).await,
            Err(error) => lost(&error),
        }
    }

    async fn wait(&self, lease: &Lease, original: VideoId, sha256: [u8; 32]) -> bool {
        let waiting = self.db.wait_for(lease, original, sha256, POLL).await.expect("an answer");
        waiting == Commit::Applied
    }

    pub(crate) async fn strike(&self, lease: &Lease, kind: Strike) {
        let cause = FailureCause::Dependency;
        let retried = self.db.retry(lease, cause, "no", kind, MAX_STRIKES, SECOND).await;
        retried.expect("an answer");
    }

    pub(crate) async fn open_jobs(&self) -> i64 {
        sqlx::query_scalar("select count(*) from jobs where state in ('pending', 'running')")
            .fetch_one(&self.pool)
            .await
            .expect("a count")
    }

    /// One worker without misfortunes, until nothing is left to do. Everything that others held is lost.
    pub(crate) async fn drain(&self) {
        sqlx::query("update jobs set lease_until = now() - interval '1 s' where state = 'running'")
            .execute(&self.pool)
            .await
            .expect("lost");
        for _ in 0..100 {
            if self.open_jobs().await == 0 {
                return;
            }
            self.db.sweep(MAX_STRIKES).await.expect("a sweep");
            let_time_pass(&self.pool).await;
            for stage in Stage::ALL {
                let marked = self.db.dispatched(stage, Duration::ZERO).await.expect("marks");
                self.db.undispatch(&marked).await.expect("a count");
                for job in self.due(stage).await {
                    if let Some(lease) = self.claim(job, LEASE).await {
                        assert!(self.finish(&lease).await);
                    }
                }
            }
        }
        panic!("{} jobs never end", self.open_jobs().await);
    }

    /// What must hold once nothing is left to do; each query names the rows that break it.
    pub(crate) async fn assert_ended(&self) {
        for (promise, query) in [
            (
                "every video has ended",
                "select to_jsonb(v) from videos v
                  where state not in ('ready', 'duplicate', 'failed') or processed_at is null",
            ),
            (
                "every job has ended",
                "select to_jsonb(j) from jobs j
                  where state not in ('done', 'dead', 'cancelled') or finished_at is null",
            ),
            (
                "a dead job has a reason",
                "select to_jsonb(j) from jobs j
                  where state = 'dead' and (failure_cause is null or last_error is null)",
            ),
            (
                "every attempt is known and has ended",
                "select to_jsonb(j) from jobs j
                  where attempt <> (select count(*) from job_attempts a
                          where a.job_id = j.id and a.outcome is not null and a.ended_at is not null)",
            ),
            (
                "one attempt at most is done",
                "select to_jsonb(j) from jobs j
                  where (state = 'done')::int <> (select count(*) from job_attempts a
                                                   where a.job_id = j.id and a.outcome = 'done')",
            ),
            (
                "ready means that the first two stages are done and the others have ended",
                "select to_jsonb(v) from videos v
                  where state = 'ready'
                    and (select count(*) from jobs j where j.video_id = v.id
                          and (j.state = 'done'
                               or j.state = 'dead' and j.stage in ('speech_to_text', 'embeddings'))) <> 4",
            ),
            (
                "the bits agree with the jobs",
                "select to_jsonb(v) from videos v
                  where (finished_stages, dead_stages) <> (
                    select sum(case when j.state = 'done' then 1 << s.n else 0 end),
                           sum(case when j.state = 'dead' then 1 << s.n else 0 end)
                      from jobs j
                      join (values ('duplicate_detection', 0), ('transcode', 1),
                                   ('speech_to_text', 2), ('embeddings', 3)) s(stage, n) using (stage)
                     where j.video_id = v.id)",
            ),
            (
                "an alias is of a ready video with the same bytes",
                "select to_jsonb(v) from videos v join videos o on o.id = v.duplicate_of
                  where o.state <> 'ready' or o.sha256 is distinct from v.sha256",
            ),
            (
                "the same bytes are not processed twice",
                "select jsonb_agg(v.id) from videos v where state = 'ready' group by sha256 having count(*) > 1",
            ),
        ] {
            let breaches: Vec<serde_json::Value> =
                sqlx::query_scalar(query).fetch_all(&self.pool).await.expect("an answer");
            assert!(breaches.is_empty(), "{promise}, but: {breaches:#?}");
        }
    }
}

/// Only a lost lease is a fair answer here.
fn lost(error: &DbError) -> bool {
    assert!(matches!(error, DbError::LeaseLost), "{error}");
    false
}
