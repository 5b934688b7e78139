-- Mends of the operators' functions: what a rerun revives stays revived, what another rerun waits for is not dropped, a
-- clean record is clean of deadlines too, and stuck_jobs names what is stuck and not what waits its turn.

alter table jobs add column clean_attempt int not null default 0;
comment on column jobs.clean_attempt is 'The last attempt before an operator ran the job again: what went wrong up to it counts no more.';

-- Volatile and a statement of its own, so that it sees what was committed while its caller waited for a lock.
create function video_is_wanted(video uuid) returns boolean
language plpgsql volatile as $$
begin
  return exists (select 1 from videos v where v.id = video_is_wanted.video and v.state in ('processing', 'ready'));
end $$;
comment on function video_is_wanted(uuid) is 'Whether the jobs of a video still have a purpose, as of this very moment.';

-- As before, but: all jobs are locked before the video, as everywhere; all is due at once, since a claim that began
-- earlier asks video_is_wanted before it drops a job; a source that was missing may be back, which the stage finds out.
create or replace function rerun(video uuid, stage text) returns text
language plpgsql as $$
#variable_conflict use_column
declare
  bit     smallint := stage_bit(stage);
  attempt int;
  v       videos;
  j       jobs;
begin
  with locked as (
    select o.id, o.stage, o.state, o.pipeline from jobs o
     where o.video_id = rerun.video and (o.stage = rerun.stage or o.state in ('pending', 'cancelled'))
     order by o.id
       for update),
   job as (
    select l.id, l.state from locked l where l.stage = rerun.stage order by l.pipeline desc limit 1),
   again as (
    update videos u
       set state = case when u.state = 'failed' then 'processing' else u.state end,
           failure_cause = null, failure_detail = null,
           processed_at = case when u.state = 'ready' then u.processed_at end,
           finished_stages = u.finished_stages & ~bit, dead_stages = u.dead_stages & ~bit,
           original_claim = case
             when u.state <> 'failed' or bit = 1 then u.original_claim
             when not exists (select 1 from videos o where o.owner_id = u.owner_id and o.size_bytes = u.size_bytes
                                 and o.original_claim is not null) then 'first_of_size'
             when u.sha256 is not null
              and not exists (select 1 from videos o where o.owner_id = u.owner_id and o.sha256 = u.sha256
                                 and o.original_claim is not null) then 'same_size' end,
           updated_at = now()
      from job
     where u.id = rerun.video and job.state in ('done', 'dead', 'cancelled')
       and (u.state = 'processing' and bit > 1 or u.state = 'ready' and bit > 1
            -- The stage that failed it, or all is in vain.
            or u.state = 'failed' and bit <= 2 and u.finished_stages & bit = 0)
    returning u.id, u.state, u.dead_stages),
   revived as (
    update jobs o
       set state = 'pending', run_at = now(), dispatched_at = null, waits_for = null, finished_at = null
      from locked l, again
     where o.id = l.id and l.stage <> rerun.stage and l.state = 'cancelled'
       and again.state = 'processing' and stage_bit(l.stage) & again.dead_stages = 0)
  update jobs o
     set state = 'pending', failures = 0, crashes = 0, lost_workers = 0, clean_attempt = o.attempt, run_at = now(),
         dispatched_at = null, waits_for = null, progress = null, failure_cause = null, last_error = null,
         finished_at = null
    from job, again
   where o.id = job.id
  returning o.attempt into attempt;
  if found then
    return format('%s of %s runs again, as attempt %s', stage, video, attempt + 1);
  end if;

  select * into v from videos u where u.id = video;
  if not found then
    raise exception 'there is no video %', video using errcode = 'CS404';
  end if;
  select * into j from jobs o where o.video_id = video and o.stage = rerun.stage order by o.pipeline desc limit 1;
  raise exception using errcode = 'CS409', message = case
    when v.state = 'deleting' then format('%s is being deleted', video)
    when v.state = 'duplicate' then format('%s is a duplicate and was not processed itself: run its original again, %s', video, v.duplicate_of)
    when v.state in ('uploading', 'expired') then format('nothing was uploaded for %s yet, so there is nothing to run', video)
    when j.id is null then format('%s has no %s yet: %s', video, stage, explain(video))
    when j.state = 'pending' then format('%s of %s waits to be run already: %s', stage, video, explain(video))
    when j.state = 'running' then format('%s of %s is running; cancel it first', stage, video)
    when v.state = 'failed' then format('%s failed in another stage, and %s alone cannot mend it: %s', video, stage, explain(video))
    when bit = 1 then format('duplicate detection of %s has decided, and other videos may go by it; only that of a failed video is repeated', video)
    else format('%s of %s changed at this very moment; try again', stage, video) end;
exception when unique_violation then
  -- Two at once would both be the first of their size.
  raise exception '% of % changed at this very moment; try again', stage, video using errcode = 'CS409';
end $$;

-- As before, but jobs that wait are dropped only with a video that failed: a ready one goes on playing, and what else of
-- it runs again goes on.
create or replace function cancel(video uuid, stage text) returns text
language plpgsql as $$
#variable_conflict use_column
declare
  bit     smallint := stage_bit(stage);
  decides boolean := bit <= 2;
  why     text := format('%s was cancelled by an operator', stage);
  ran     boolean;
  v       videos;
  j       jobs;
begin
  with before as (
    select o.id, o.state from jobs o
     where o.video_id = cancel.video and o.stage = cancel.stage and o.state in ('pending', 'running')
       for update),
   ended as (
    update jobs o
       set state = 'cancelled', finished_at = now(), dispatched_at = null, waits_for = null,
           worker = null, lease_until = null, deadline_at = null, progress = null,
           failure_cause = 'cancelled', last_error = why
      from before where o.id = before.id
    returning o.id, o.video_id, o.attempt, before.state),
   tried as (
    update job_attempts t set ended_at = now(), outcome = 'cancelled', failure_cause = 'cancelled', detail = why
      from ended where t.job_id = ended.id and t.attempt = ended.attempt and t.ended_at is null),
   changed as (
    update videos u
       set dead_stages = u.dead_stages | bit,
           state = case when u.state <> 'processing' then u.state
                        when decides then 'failed'
                        when (u.finished_stages | u.dead_stages | bit) = 15 and u.finished_stages & 3 = 3 then 'ready'
                        else u.state end,
           failure_cause = case when u.state = 'processing' and decides then 'cancelled' else u.failure_cause end,
           failure_detail = case when u.state = 'processing' and decides then why else u.failure_detail end,
           original_claim = case when u.state = 'processing' and decides then null else u.original_claim end,
           processed_at = case when u.state = 'processing'
                                and (decides or ((u.finished_stages | u.dead_stages | bit) = 15
                                                 and u.finished_stages & 3 = 3))
                               then now() else u.processed_at end,
           updated_at = now()
      from ended where u.id = ended.video_id
    returning u.id, u.state),
   idle as (
    select o.id from ended, jobs o join changed on o.video_id = changed.id
     where decides and changed.state = 'failed' and o.id <> ended.id and o.state = 'pending'
       for update of o skip locked),
   dropped as (
    update jobs o set state = 'cancelled', finished_at = now(), dispatched_at = null, waits_for = null
      from idle where o.id = idle.id),
   waiting as (
    select w.id from jobs w join changed on w.waits_for = changed.id
     where w.state = 'pending' and changed.state <> 'processing'
       for update of w skip locked),
   woken as (
    update jobs w set run_at = now(), waits_for = null, dispatched_at = null from waiting where w.id = waiting.id)
  select ended.state = 'running' into ran from ended;
  if found then
    return format('%s of %s is cancelled%s', stage, video,
                  case when ran then '; the worker that runs it stops within seconds' else '' end);
  end if;

  select * into v from videos u where u.id = video;
  if not found then
    raise exception 'there is no video %', video using errcode = 'CS404';
  end if;
  select * into j from jobs o where o.video_id = video and o.stage = cancel.stage order by o.pipeline desc limit 1;
  raise exception using errcode = 'CS409', message = case
    when j.id is null then format('%s has no %s to cancel: %s', video, stage, explain(video))
    when j.state in ('pending', 'running') then format('%s of %s changed at this very moment; try again', stage, video)
    else format('%s of %s has ended already, it is %s', stage, video, j.state) end;
end $$;

-- As before, but for the age of what waits for a paused queue.
create or replace function explain_job(j jobs) returns text
language sql stable as $$
  select j.stage || ' ' || case j.state
    when 'done' then 'is done since ' || utc(j.finished_at)
    when 'cancelled' then 'is cancelled since ' || utc(j.finished_at)
    when 'dead' then format('is dead since %s after %s attempts: %s (%s); what to do: %s', utc(j.finished_at), j.attempt,
                            coalesce(j.failure_cause, 'unknown cause'), coalesce(j.last_error, 'no more is known'), remedy(j.failure_cause))
    when 'running' then case
      when j.lease_until < now() then format('lost its worker at %s, and is taken back within a second if a process with the role dispatch is up', utc(j.lease_until))
      when j.deadline_at < now() then format('ran past its deadline at %s, and is taken back within a second if a process with the role dispatch is up', utc(j.deadline_at))
      else format('runs since %s as attempt %s, %s %% done, its lease renewed until %s', utc(j.started_at), j.attempt,
                  round(100 * coalesce(j.progress, 0)), utc(j.lease_until)) end
    else (select case
      when p.stage is not null then format('waits since %s: its queue is paused since %s%s, until `clipstream queues resume %s`',
             utc(j.run_at), utc(p.paused_at), coalesce(' (' || p.reason || ')', ''), j.stage)
      when j.waits_for is not null then format('waits for %s, which has the same bytes, to end; it looks again at %s at the latest', j.waits_for, utc(j.run_at))
      when j.run_at > now() and j.last_error is not null then format('is tried again at %s, after %s failures, %s crashes and %s lost workers; the last was: %s',
             utc(j.run_at), j.failures, j.crashes, j.lost_workers, j.last_error)
      when j.run_at > now() then format('is due at %s', utc(j.run_at))
      when j.dispatched_at is null then format('is due since %s and waits for its turn; a process with the role dispatch pushes it to Redis when there is room', utc(j.run_at))
      else format('is due since %s and in the Redis queue since %s; it runs when a worker of its stage is free', utc(j.run_at), utc(j.dispatched_at)) end
      from (values (1)) one left join paused_queues p on p.stage = j.stage) end
$$;

create or replace view stuck_jobs as
select j.id as job_id, j.video_id, j.stage, j.state, j.attempt, j.run_at, j.lease_until, j.last_error, r.reason
  from jobs j
  cross join lateral (select case
    when j.state = 'dead' then 'dead: ' || coalesce(j.failure_cause, 'unknown cause') || coalesce(' (' || j.last_error || ')', '')
    when j.state = 'running' and j.lease_until < now() then 'its worker is gone since ' || j.lease_until || '; the sweep should take it back within seconds'
    when j.state = 'running' and j.deadline_at < now() then 'it ran past its deadline'
    when j.state = 'pending' and j.waits_for is not null then 'waits for original ' || j.waits_for || ' to end'
    when j.state = 'pending' and (select count(*) from job_attempts t
                                   where t.job_id = j.id and t.outcome = 'released'
                                     and t.ended_at > now() - interval '10 minutes') >= 3
      then 'released again and again: ' || coalesce(j.last_error, 'no error')
    when j.state = 'pending' and j.run_at > now() + interval '30 seconds' then 'waits until ' || j.run_at || ' after: ' || coalesce(j.last_error, 'no error')
    when j.state <> 'pending' or j.run_at > now() - interval '60 seconds'
         or exists (select 1 from paused_queues p where p.stage = j.stage) then null
    when j.dispatched_at is not null then 'dispatched but not claimed: is a worker for this stage up and free?'
    -- While others of the stage are dispatched or its owner has all that he may have, this one only waits its turn.
    when not exists (select 1 from jobs o where o.stage = j.stage and o.state = 'pending' and o.dispatched_at is not null)
     and not exists (select 1 from jobs o where o.stage = j.stage and o.state = 'running' and o.started_at > now() - interval '60 seconds')
     and not exists (select 1 from owners w where w.id = j.owner_id and w.max_inflight <=
                       (select count(*) from jobs o where o.stage = j.stage and o.owner_id = w.id and o.state = 'running'))
      then 'nobody dispatches it: is a process with the role dispatch up, and Redis?'
  end as reason) r
 where j.state in ('pending', 'running', 'dead') and r.reason is not null
union all
select null, v.id, null, v.state, null, null, null, null, 'it is processed and no job of it is open: a defect, report it'
  from videos v
 where v.state = 'processing'
   and not exists (select 1 from jobs j where j.video_id = v.id and j.state in ('pending', 'running'));
