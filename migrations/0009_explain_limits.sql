-- explain() names the limit of an owner where that is why a job waits. Replaces one function (expand): an older binary calls
-- the same one.

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
      when j.dispatched_at is null and l.in_flight >= l.max_inflight then
        format('is due since %s, but its owner %s has %s jobs of this stage running or in Redis, as many as it may (max_inflight %s); it goes on when one of them ends, or after `clipstream owners set %s --max-inflight COUNT`',
             utc(j.run_at), l.name, l.in_flight, l.max_inflight, l.name)
      when j.dispatched_at is null then format('is due since %s and waits for its turn; a process with the role dispatch pushes it to Redis when there is room', utc(j.run_at))
      else format('is due since %s and in the Redis queue since %s; it runs when a worker of its stage is free', utc(j.run_at), utc(j.dispatched_at)) end
      from (values (1)) one left join paused_queues p on p.stage = j.stage
      left join lateral (
        select o.name, o.max_inflight,
               (select count(*) from jobs f where f.stage = j.stage and f.owner_id = j.owner_id
                   and (f.state = 'running' or (f.state = 'pending' and f.dispatched_at is not null))) as in_flight
          from owners o where o.id = j.owner_id and o.max_inflight is not null) l on true) end
$$;
