//! The pieces of SQL that several transitions share. Parameters $1, $2, $3 are always a lease's job, attempt and worker.

/// Holds for the row of a job only as long as this attempt of this worker runs.
macro_rules! guard {
    () => {
        "id = $1 and attempt = $2 and worker = $3 and state = 'running'"
    };
}

/// `held`: the guarded row, locked until the statement's end, for writes that leave the job running.
/// Without the lock a sweep could take the job back between the check and the write.
macro_rules! held {
    () => {
        "held as (
           select id, video_id, owner_id, stage, attempt from jobs
            where id = $1 and attempt = $2 and worker = $3 and state = 'running'
              for update)"
    };
}

/// `woken`: the jobs that waited for the video in `v`, due at once when it has ended. A job that another statement holds,
/// or that began to wait after this statement's snapshot, is missed here and found by the next sweep.
macro_rules! wake {
    () => {
        "waiting as (
           select w.id from jobs w join v on w.waits_for = v.id
            where w.state = 'pending' and v.state <> 'processing'
              for update of w skip locked),
         woken as (
           update jobs w set run_at = now(), waits_for = null, dispatched_at = null
             from waiting where w.id = waiting.id
           returning w.id)"
    };
}

pub(in crate::db) use {guard, held, wake};
