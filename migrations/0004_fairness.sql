-- Fair shares of owners, and an order within an owner that starves nobody.

alter table owners
  add column weight       smallint not null default 1 check (weight between 1 and 100),
  add column max_inflight int check (max_inflight > 0);
comment on column owners.weight       is 'Share of the workers while others wait as well: an owner of weight 3 has three jobs at work for each one of an owner of weight 1.';
comment on column owners.max_inflight is 'Most jobs of one stage that may run or wait in Redis at once; null: no limit of its own.';
comment on column jobs.priority       is 'Within an owner, each step is worth ten minutes of waiting: see line_time. Passed on to the video''s next jobs.';

-- Immutable in truth: minutes do not depend on a time zone, unlike the days for which the operator is only stable.
create function line_time(run_at timestamptz, priority smallint) returns timestamptz
  language sql immutable parallel safe
  return run_at - priority * interval '10 minutes';
comment on function line_time is 'Where a job stands in its owner''s line. Priority is a head start: a job goes before those that began to wait less than ten minutes per step before it, so it overtakes, and nobody waits behind later ones for ever.';

-- The first rows of each owner's line are found without reading the rest of a long backlog. Takes the place of jobs_due;
-- the version before this one finds owners by it too, and sorts their lines itself while both run.
create index jobs_in_line on jobs (stage, owner_id, line_time(run_at, priority), id) where state = 'pending' and dispatched_at is null;
drop index jobs_due;

-- A statement counts as of its own start, also if it then waits for a lock. What a function that may write asks is
-- counted as of that moment: after the lock, so after the commit of whoever held it before.
create function dispatch_turn(for_stage text) returns table (owner_id uuid, in_flight bigint)
  language plpgsql volatile as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('clipstream.dispatch.' || for_stage, 0));
  return query
    select j.owner_id, count(*) from jobs j
     where j.stage = for_stage
       and (j.state = 'running' or (j.state = 'pending' and j.dispatched_at is not null))
     group by j.owner_id;
end $$;
comment on function dispatch_turn is 'Lets one dispatcher at a time fill a stage, until its commit, and says how many jobs each owner then has running or in Redis.';
