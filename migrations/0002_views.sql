-- Views that make psql a dashboard. They may be replaced by a later migration at any time: no code reads them.

create view pipeline_status as
select v.id as video_id, o.name as owner, v.title, v.filename, v.object_key, v.state, v.failure_cause, v.failure_detail,
       v.processing_index, v.duplicate_of, v.uploaded_at, v.playable_at, v.processed_at,
       v.playable_at - v.uploaded_at as time_to_playable,
       v.processed_at - v.uploaded_at as time_to_end,
       s.stages
  from videos v
  join owners o on o.id = v.owner_id
  left join lateral (
    select jsonb_object_agg(j.stage, jsonb_strip_nulls(jsonb_build_object(
             'state', j.state, 'attempt', j.attempt, 'progress', j.progress,
             'wait_s', round(extract(epoch from coalesce(j.started_at, now()) - j.created_at)::numeric, 3),
             'run_s', round(extract(epoch from
                        case when j.started_at is not null and j.state <> 'pending'
                             then coalesce(j.finished_at, now()) - j.started_at end)::numeric, 3),
             'cause', j.failure_cause, 'error', j.last_error))) as stages
      from jobs j where j.video_id = v.id) s on true;
comment on view pipeline_status is 'A row per video with each stage''s state, attempt, progress, wait and run time.';

create view stuck_jobs as
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
    when j.state = 'pending' and j.run_at < now() - interval '60 seconds' and j.dispatched_at is null then 'nobody dispatches it: is a process with the role dispatch up, and Redis?'
    when j.state = 'pending' and j.run_at < now() - interval '60 seconds' then 'dispatched but not claimed: is a worker for this stage up and free?'
  end as reason) r
 where j.state in ('pending', 'running', 'dead') and r.reason is not null;
comment on view stuck_jobs is 'Jobs that need a look, each with the reason.';
