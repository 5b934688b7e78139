-- The witness of a world with real stages: what oracle.sql sees by the signatures of pretended stages, real ones do not
-- sign. Here an attempt is known by the rows that name it.

drop trigger chaos_job on jobs;
drop trigger chaos_video on videos;
drop trigger chaos_embedding on embeddings;
drop trigger chaos_object on objects;

create or replace function chaos.watch_job() returns trigger language plpgsql as $$
declare
  event text;
  wrong text;
begin
  if tg_op = 'INSERT' then
    event := 'made';
  elsif old.state = 'pending' and new.state = 'running' then
    event := 'claimed';
    if new.attempt <> old.attempt + 1 then
      wrong := format('claimed with attempt %s after %s', new.attempt, old.attempt);
    end if;
  elsif new.attempt <> old.attempt then
    wrong := format('attempt %s became %s while %s', old.attempt, new.attempt, old.state);
  elsif old.state = 'running' and new.state = 'running' then
    if new.worker <> old.worker then
      wrong := 'two workers on one attempt';
    end if;
  elsif old.state = 'running' then
    event := case new.state when 'pending' then 'returned' else new.state end;
    if new.lost_workers > old.lost_workers and old.lease_until > clock_timestamp()
       and old.deadline_at > clock_timestamp() then
      wrong := format('attempt %s swept %s before its lease ended', new.attempt, old.lease_until - clock_timestamp());
    end if;
  elsif old.state in ('done', 'dead', 'cancelled') and new.state <> old.state then
    wrong := format('%s became %s', old.state, new.state);
  end if;
  if tg_op = 'UPDATE' and new.failures + new.crashes > old.failures + old.crashes then
    insert into chaos.charges (video, detail) values (new.video_id, new.stage || ': ' || new.last_error);
  end if;
  if wrong is not null then
    insert into chaos.late (video, detail) values (new.video_id, new.stage || ': ' || wrong);
  end if;
  if event is not null then
    insert into chaos.log (job, video, stage, event, attempt)
    values (new.id, new.video_id, new.stage, event, new.attempt);
  end if;
  return null;
end $$;
create trigger chaos_job after insert or update on jobs
  for each row execute function chaos.watch_job();

create or replace function chaos.watch_video() returns trigger language plpgsql as $$
begin
  if new.playback is distinct from old.playback
     and (new.playback->>'attempt')::int is distinct from chaos.attempt_of(new.id, 'transcode') then
    insert into chaos.late (video, detail)
    values (new.id, 'transcode: playback of attempt ' || coalesce(new.playback->>'attempt', 'nobody'));
  end if;
  if old.state in ('ready', 'failed', 'duplicate') and new.state <> old.state then
    insert into chaos.late (video, detail) values (new.id, old.state || ' became ' || new.state);
  end if;
  return null;
end $$;
create trigger chaos_video after update on videos
  for each row execute function chaos.watch_video();

create or replace function chaos.watch_embedding() returns trigger language plpgsql as $$
begin
  if new.attempt is distinct from chaos.attempt_of(new.video_id, 'embeddings') then
    insert into chaos.late (video, detail) values (new.video_id, 'embeddings: vector of attempt ' || new.attempt);
  end if;
  return null;
end $$;
create trigger chaos_embedding after insert or update on embeddings
  for each row execute function chaos.watch_embedding();

-- An object is announced by an attempt that runs.
create or replace function chaos.watch_object() returns trigger language plpgsql as $$
begin
  if not exists (select 1 from jobs j where j.video_id = new.video_id and j.attempt = new.attempt and j.state = 'running') then
    insert into chaos.late (video, detail)
    values (new.video_id, format('attempt %s announced %s while it did not run', new.attempt, new.key));
  end if;
  return null;
end $$;
create trigger chaos_object after insert or update on objects
  for each row execute function chaos.watch_object();
