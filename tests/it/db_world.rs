//! Uploaders and workers for whole stories: what they upload, how a worker takes a job to its end, and what must hold
//! once nothing is left to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::db::videos::NewUpload;
use pipeline::db::{Announcer, Commit, Db, DbError, DuplicateCommit, Strike};
use pipeline::event::CreatedObject;
use pipeline::job::{JobId, Lease, WorkerId};
use pipeline::stage::Stage;
use pipeline::video::{BytesClaim, FailureCause, OwnerId, SizeClaim, VideoId, VideoState};
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

/// The witness of what an operator ran again: what it had been says what may be there twice.
const WITNESS: &str = "
create table if not exists ran_again (job uuid not null, was text not null);
create or replace function note_again() returns trigger language plpgsql as $$
begin
  insert into ran_again values (new.id, old.state);
  return null;
end $$;
create or replace trigger note_again after update on jobs for each row
  when (old.state in ('done', 'dead', 'cancelled') and new.state not in ('done', 'dead', 'cancelled'))
  execute function note_again();";

impl World {
    pub(crate) async fn new(db: &Db, pool: &PgPool) -> Self {
        let (uploads, contents) = (Arc::default(), Arc::default());
        sqlx::raw_sql(WITNESS).execute(pool).await.expect("a witness");
        Self { db: db.clone(), pool: pool.clone(), uploads, contents }
    }

    pub(crate) async fn upload(&self, content: usize) {
        let key = format!("raw-uploads/{}.mp4", uuid::Uuid::now_v7());
        self.put(&key, content).await;
    }

    /// Other bytes at a key that is known. It is a video of its own; nothing is said here about the one before.
    pub(crate) async fn overwrite(&self, pick: impl FnOnce(usize) -> usize, content: usize) {
        if let Some((_, earlier)) = self.pick(pick) {
            self.put(&earlier.key, content).await;
        }
    }

    /// An object that was not there before, and its webhook.
    pub(crate) async fn put(&self, key: &str, content: usize) -> VideoId {
        let mut object = object(key, &uuid::Uuid::now_v7().to_string());
        object.size_bytes = CONTENTS[content].0;
        let accepted = self.db.accept_object(&object, Announcer::Webhook).await.expect("accepted");
        assert!(accepted.created, "an object that was not there is a video of its own");
        self.contents.lock().expect("no panic").insert(accepted.video, content);
        self.uploads.lock().expect("no panic").push((accepted.video, object));
        accepted.video
    }

    /// The row of `POST /v1/videos`.
    pub(crate) async fn announce(&self, content: usize) -> VideoId {
        let video = VideoId::new();
        let upload = NewUpload {
            video,
            owner: OwnerId::DEFAULT,
            bucket: "clipstream".to_owned(),
            key: format!("raw-uploads/{video}.mp4"),
            filename: "a.mp4".to_owned(),
            title: None,
            stream_id: None,
            content_type: "video/mp4".to_owned(),
            size_bytes: CONTENTS[content].0,
            expires_at: pipeline::clock::now() + Duration::from_hours(1),
        };
        self.db.create_upload(&upload).await.expect("announced");
        video
    }

    /// The URLs of everything that was not uploaded yet end.
    pub(crate) async fn urls_end(&self) {
        sqlx::query("update videos set upload_expires_at = now() - interval '1 h' where state = 'uploading'")
            .execute(&self.pool)
            .await
            .expect("ended");
        self.db.expire_uploads(SECOND).await.expect("a count");
    }

    fn pick(&self, pick: impl FnOnce(usize) -> usize) -> Option<(VideoId, CreatedObject)> {
        let uploads = self.uploads.lock().expect("no panic");
        (!uploads.is_empty()).then(|| uploads[pick(uploads.len())].clone())
    }

    /// A listing that tells of it once more. Only a source that had been missing begins anew.
    pub(crate) async fn tell_again(&self, pick: impl FnOnce(usize) -> usize) {
        let Some(told) = self.pick(pick) else { return };
        let missed =
            "select failure_cause is not distinct from 'source_missing' and state = 'failed'
                        from videos where id = $1";
        let missed: bool = sqlx::query_scalar(missed)
            .bind(told.0.0)
            .fetch_one(&self.pool)
            .await
            .expect("the video");
        let again = self.db.accept_object(&told.1, Announcer::Reconcile).await.expect("accepted");
        assert_eq!((again.video, again.created), (told.0, missed));
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

    /// What must hold at any moment: whatever is in between has something that takes it on.
    pub(crate) async fn assert_never_stuck(&self) {
        self.assert_none(&[
            (
                "a video that is processed has a job that waits or runs",
                "select to_jsonb(v) from videos v
                  where state = 'processing' and not exists (
                    select 1 from jobs j where j.video_id = v.id and j.state in ('pending', 'running'))",
            ),
            (
                "a running job has a worker, an end of its lease and a deadline, and no other has",
                "select to_jsonb(j) from jobs j
                  where num_nulls(worker, lease_until, deadline_at) <> case state when 'running' then 0 else 3 end",
            ),
            (
                "an attempt that has not ended is the one that runs",
                "select to_jsonb(a) from job_attempts a join jobs j on j.id = a.job_id
                  where a.ended_at is null and (j.state <> 'running' or a.attempt <> j.attempt)",
            ),
            (
                "who waits for an original waits for one that is processed",
                "select to_jsonb(j) from jobs j join videos o on o.id = j.waits_for
                  where j.state <> 'pending' or o.state <> 'processing'",
            ),
        ])
        .await;
    }

    /// What must hold once nothing is left to do.
    pub(crate) async fn assert_ended(&self) {
        self.assert_none(&[
            (
                "every video has ended",
                "select to_jsonb(v) from videos v
                  where state not in ('ready', 'duplicate', 'failed', 'expired')
                     or state <> 'expired' and processed_at is null",
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
                "one attempt at most is done, unless an operator ran a done job again",
                "select to_jsonb(j) from jobs j
                  where (state = 'done')::int + (select count(*) from ran_again r where r.job = j.id and r.was = 'done')
                     <> (select count(*) from job_attempts a where a.job_id = j.id and a.outcome = 'done')",
            ),
            (
                "ready means that the first two stages were done and the others have ended",
                "select to_jsonb(v) from videos v
                  where state = 'ready'
                    and (select count(*) from jobs j where j.video_id = v.id
                          and (j.state = 'done' or j.stage in ('speech_to_text', 'embeddings')
                               or exists (select 1 from ran_again r where r.job = j.id and r.was = 'done'))) <> 4",
            ),
            (
                "the bits agree with the jobs",
                "select to_jsonb(v) from videos v
                  where (finished_stages, dead_stages) <> (
                    select sum(case when j.state = 'done' then 1 << s.n else 0 end),
                           sum(case when j.state = 'dead' or j.state = 'cancelled' and j.failure_cause = 'cancelled'
                                    then 1 << s.n else 0 end)
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
                "the same bytes are not processed twice, unless an operator ran what had failed again",
                "select jsonb_agg(v.id) from videos v
                  where state = 'ready' and not exists (
                    select 1 from ran_again r join jobs j on j.id = r.job where j.video_id = v.id and r.was <> 'done')
                  group by sha256 having count(*) > 1",
            ),
        ])
        .await;
    }

    /// Each query names the rows that break its promise.
    async fn assert_none(&self, promises: &[(&str, &'static str)]) {
        for (promise, query) in promises {
            let breaches: Vec<serde_json::Value> =
                sqlx::query_scalar(*query).fetch_all(&self.pool).await.expect("an answer");
            assert!(breaches.is_empty(), "{promise}, but: {breaches:#?}");
        }
    }
}

/// Only a lost lease is a fair answer here.
fn lost(error: &DbError) -> bool {
    assert!(matches!(error, DbError::LeaseLost), "{error}");
    false
}
