-- The hands of an operator, for psql and for the commands `jobs` and `queues`, which call the same functions: run a stage
-- again, cancel one, pause a queue, and ask in one sentence what a video waits for.

create table paused_queues (
  stage     text primary key check (stage in
              ('duplicate_detection', 'transcode', 'speech_to_text', 'embeddings')),
  reason    text,
  paused_at timestamptz not null default now()
);
comment on table  paused_queues           is 'Stages that begin nothing: dispatch pushes none of their ids and a claim takes none. Here and not in Redis, so that it outlives Redis.';
comment on column paused_queues.stage     is 'The stage; what runs when it is paused goes on to its end.';
comment on column paused_queues.reason    is 'Why, for the next person who looks.';
comment on column paused_queues.paused_at is 'Since when.';

create index jobs_dead on jobs (stage, finished_at) where state = 'dead';

alter table job_attempts drop constraint job_attempts_outcome_check;
alter table job_attempts add constraint job_attempts_outcome_check
  check (outcome in ('done', 'failed', 'waiting', 'released', 'crashed', 'lost', 'cancelled'));
comment on column job_attempts.outcome is 'done, failed, waiting, released (shutdown or outage), crashed (the child), lost (the worker) or cancelled (by an operator).';
comment on column videos.dead_stages is 'Bit (number - 1) set for each stage whose job is dead, or was cancelled by an operator, so that ready does not wait for it. A job that was cancelled because its video failed has no bit.';

-- As Stage::bit. Fails on a word that is no stage.
create function stage_bit(stage text) returns smallint
language plpgsql immutable strict as $$
begin
  case stage
    when 'duplicate_detection' then return 1;
    when 'transcode' then return 2;
    when 'speech_to_text' then return 4;
    when 'embeddings' then return 8;
    else raise exception '% is not a stage; the stages are duplicate_detection, transcode, speech_to_text, embeddings', stage
      using errcode = 'CS409';
  end case;
end $$;
comment on function stage_bit(text) is 'The bit of a stage in videos.finished_stages and dead_stages.';

create function utc(at timestamptz) returns text
language sql stable strict as $$
  select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;
comment on function utc(timestamptz) is 'A time as explain() writes it.';

-- What a person can do about a cause of failure. A cause that is not listed here is one of a newer version.
create function remedy(cause text) returns text
language sql immutable as $$
  select case cause
    when 'source_missing'     then 'the object is gone: upload the clip again'
    when 'source_unreadable'  then 'let the daemon''s key read the object, then run the stage again'
    when 'empty_file'         then 'nothing was in it: upload the clip again'
    when 'unsupported_format' then 'it is no video or audio that is accepted: upload another format'
    when 'corrupt'            then 'the file is damaged: upload a good copy'
    when 'truncated'          then 'the file ends early: upload all of it'
    when 'no_media'           then 'there is neither picture nor sound in it: upload another file'
    when 'limit_exceeded'     then 'upload a shorter or smaller one'
    when 'media_crashed'      then 'the decoder died of it: run the stage again after an upgrade, and report the file'
    when 'deadline_exceeded'  then 'give workers more time or fewer slots, then run the stage again'
    when 'speech_engine'      then 'mend the engine (`clipstream doctor` looks at it), then run the stage again'
    when 'output_invalid'     then 'look at the storage (`clipstream doctor`), then run the stage again'
    when 'dependency'         then 'look at the services (`clipstream doctor`), then run the stage again'
    when 'worker_lost'        then 'find out why workers die of it (memory?), then run the stage again'
    when 'cancelled'          then 'an operator did this: run the stage again if it shall go on'
    else                           'the log says more; run the stage again after an upgrade'
  end
$$;
comment on function remedy(text) is 'What to do about a failure_cause.';

-- Runs a stage again that is done, dead or cancelled: pending with a clean record, its attempt kept, so that whoever
-- still works on an old attempt changes nothing. A ready video goes on playing; a failed one is processed again, with the
-- jobs that were cancelled when it failed, and is an original again if nobody else took its place.
--
-- One statement, jobs first and then the video, as every other. All becomes due a second later: a claim that began before
-- this one ended still sees the video failed, and would cancel what it finds due.
create function rerun(video uuid, stage text) returns text
language plpgsql as $$
#variable_conflict use_column
declare
  bit      smallint := stage_bit(stage);
  begun_at timestamptz := clock_timestamp() + interval '1 second';
  attempt  int;
  v        videos;
  j        jobs;
begin
  with job as (
    select o.id from jobs o
     where o.video_id = rerun.video and o.stage = rerun.stage and o.state in ('done', 'dead', 'cancelled')
     order by o.pipeline desc limit 1
       for update),
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
     where u.id = rerun.video
       and (u.state = 'processing' and bit > 1 or u.state = 'ready' and bit > 1
            -- The stage that failed it, or all is in vain.
            or u.state = 'failed' and bit <= 2 and u.finished_stages & bit = 0
               and u.failure_cause is distinct from 'source_missing')
    returning u.id, u.state, u.dead_stages),
   siblings as (
    select o.id from jobs o join again on o.video_id = again.id
     where again.state = 'processing' and o.stage <> rerun.stage
       and o.state in ('pending', 'cancelled') and stage_bit(o.stage) & again.dead_stages = 0
       for update of o),
   revived as (
    update jobs o
       set state = 'pending', run_at = begun_at, dispatched_at = null, waits_for = null, finished_at = null
      from siblings where o.id = siblings.id and o.state = 'cancelled')
  update jobs o
     set state = 'pending', failures = 0, crashes = 0, lost_workers = 0, run_at = begun_at,
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
    when v.failure_cause = 'source_missing' then format('the source of %s is gone: upload the clip again', video)
    when v.state = 'failed' then format('%s failed in another stage, and %s alone cannot mend it: %s', video, stage, explain(video))
    when bit = 1 then format('duplicate detection of %s has decided, and other videos may go by it; only that of a failed video is repeated', video)
    else format('%s of %s changed at this very moment; try again', stage, video) end;
end $$;
comment on function rerun(uuid, text) is 'Runs a done, dead or cancelled stage of a video again: select rerun(video, ''transcode''). Fails with the reason when that cannot be.';

-- Ends a stage that waits or runs. Whoever runs it finds its row changed within a second and kills its media child; what
-- it committed before stays, what it commits afterwards changes nothing. Duplicate detection and transcode decide a
-- video's end, so the video is then failed, cause cancelled, with the jobs that wait; without one of the others it
-- becomes ready. The same statement as a dead job's (pipeline/src/db/setback.rs), with another word.
create function cancel(video uuid, stage text) returns text
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
   idle as (
    select o.id from jobs o join ended on o.video_id = ended.video_id
     where decides and o.id <> ended.id and o.state = 'pending'
       for update of o skip locked),
   dropped as (
    update jobs o set state = 'cancelled', finished_at = now(), dispatched_at = null, waits_for = null
      from idle where o.id = idle.id),
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
comment on function cancel(uuid, text) is 'Cancels a stage that waits or runs: select cancel(video, ''transcode''). Fails with the reason when that cannot be.';

create function explain_job(j jobs) returns text
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
             utc(j.created_at), utc(p.paused_at), coalesce(' (' || p.reason || ')', ''), j.stage)
      when j.waits_for is not null then format('waits for %s, which has the same bytes, to end; it looks again at %s at the latest', j.waits_for, utc(j.run_at))
      when j.run_at > now() and j.last_error is not null then format('is tried again at %s, after %s failures, %s crashes and %s lost workers; the last was: %s',
             utc(j.run_at), j.failures, j.crashes, j.lost_workers, j.last_error)
      when j.run_at > now() then format('is due at %s', utc(j.run_at))
      when j.dispatched_at is null then format('is due since %s and waits for its turn; a process with the role dispatch pushes it to Redis when there is room', utc(j.run_at))
      else format('is due since %s and in the Redis queue since %s; it runs when a worker of its stage is free', utc(j.run_at), utc(j.dispatched_at)) end
      from (values (1)) one left join paused_queues p on p.stage = j.stage) end
$$;
comment on function explain_job(jobs) is 'The part of explain() that is about one job.';

-- Why a video waits or how it ended, since when, and what happens next: one sentence.
create function explain(video uuid) returns text
language sql stable as $$
  select coalesce((
    select case v.state
      when 'uploading' then format('It waits for its upload since %s; %s', utc(v.created_at),
             case when v.upload_expires_at > now() then format('its URL can be used until %s.', utc(v.upload_expires_at))
                  else format('its URL ended at %s, and without an upload it expires 15 minutes later.', utc(v.upload_expires_at)) end)
      when 'expired' then format('Its upload URL ended unused at %s; should the upload come after all, it is processed.', utc(v.upload_expires_at))
      when 'deleting' then format('It is being deleted since %s.', utc(v.updated_at))
      when 'duplicate' then format('It ended at %s as a duplicate of %s, whose renditions it plays.', utc(v.processed_at), v.duplicate_of)
      when 'failed' then format('It failed at %s: %s (%s); what to do: %s.', utc(v.processed_at), v.failure_cause,
             coalesce(v.failure_detail, 'no more is known'), remedy(v.failure_cause))
      when 'ready' then format('It is ready since %s%s.', utc(v.processed_at), coalesce('; ' || stages.open, ''))
      else format('It is processed since %s%s%s.', utc(v.uploaded_at),
             coalesce('; it plays since ' || utc(v.playable_at), ''),
             coalesce('; ' || stages.open, '')
             || case when v.finished_stages & 1 = 0 then '; the other stages follow' else '' end) end
      from videos v
      left join lateral (
        select string_agg(explain_job(j), '; ' order by stage_bit(j.stage)) as open
          from jobs j where j.video_id = v.id and j.state <> 'done') stages on true
     where v.id = explain.video), format('There is no video %s.', video))
$$;
comment on function explain(uuid) is 'One sentence: why a video waits or how it ended, since when, and what happens next: select explain(id) from videos.';
