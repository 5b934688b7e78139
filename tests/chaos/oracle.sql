-- The independent witness of a chaos run: triggers that write down every step of every job, who took it, and every
-- write of an attempt that was not the row's at that moment. Attempts sign what they write ("2@worker-1", or in numbers),
-- so a late write is seen even if the row's own guard let it through, and even if it is overwritten afterwards.

create schema chaos;

create table chaos.log (
  n       bigint generated always as identity primary key,
  at      timestamptz not null default clock_timestamp(),
  job     uuid not null,
  video   uuid not null,
  stage   text not null,
  event   text not null,
  attempt int not null,
  by      text not null default session_user
);
create index on chaos.log (job, n);

create table chaos.late (
  at     timestamptz not null default clock_timestamp(),
  video  uuid not null,
  by     text not null default session_user,
  detail text not null
);

-- Failures and crashes that the pretended stages did not mean: those say nothing but attempt and name.
create table chaos.charges (
  at     timestamptz not null default clock_timestamp(),
  video  uuid not null,
  detail text not null
);

-- What the harness uploaded, in which phase, and how it was announced.
create table chaos.uploads (
  key       text primary key,
  phase     text not null,
  announced boolean not null,
  at        timestamptz not null default clock_timestamp()
);

-- The attempt that signed a text; null for what is not signed.
create function chaos.signed(signature text) returns int language sql immutable as
  $$ select substring(signature from '^([0-9]+)@')::int $$;

create function chaos.watch_job() returns trigger language plpgsql as $$
declare
  event text;
  wrong text;
begin
  if tg_op = 'INSERT' then
    event := 'made';
  elsif new.attempt < old.attempt then
    wrong := format('attempt fell from %s to %s', old.attempt, new.attempt);
  elsif old.state = 'pending' and new.state = 'running' then
    event := 'claimed';
    if new.attempt <> old.attempt + 1 then
      wrong := format('claimed with attempt %s after %s', new.attempt, old.attempt);
    end if;
  elsif new.attempt <> old.attempt then
    wrong := format('attempt %s became %s while %s', old.attempt, new.attempt, old.state);
  elsif old.state = 'running' and new.state = 'running' then
    if new.progress is distinct from old.progress and new.progress is not null
       and round(new.progress::numeric * 1000)::int <> new.attempt then
      wrong := format('progress of attempt %s on attempt %s', new.progress * 1000, new.attempt);
    elsif new.worker <> old.worker then
      wrong := 'two workers on one attempt';
    end if;
  elsif old.state = 'running' then
    event := case new.state when 'pending' then 'returned' else new.state end;
    if new.lost_workers > old.lost_workers and old.lease_until > clock_timestamp()
       and old.deadline_at > clock_timestamp() then
      wrong := format('attempt %s swept %s before its lease ended', new.attempt, old.lease_until - clock_timestamp());
    elsif chaos.signed(new.result->>'engine') <> new.attempt
       or (chaos.signed(new.last_error) <> new.attempt and new.last_error is distinct from old.last_error) then
      wrong := format('attempt %s ended by %s', new.attempt, coalesce(new.result->>'engine', new.last_error));
    end if;
  elsif old.state in ('done', 'dead', 'cancelled') and new.state <> old.state then
    wrong := format('%s became %s', old.state, new.state);
  elsif old.state = 'pending' and new.state = 'cancelled' then
    event := 'cancelled';
  elsif old.state = 'pending' and new.dispatched_at is distinct from old.dispatched_at then
    event := case when new.dispatched_at is null then 'undispatched' else 'dispatched' end;
  end if;
  if tg_op = 'UPDATE' and new.failures + new.crashes > old.failures + old.crashes
     and new.last_error !~ '^1@member_[0-9]+$' then
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

-- Which attempt is the stage's in its row, at the end of the statement that wrote.
create function chaos.attempt_of(video uuid, stage_name text) returns int language sql stable as
  $$ select attempt from jobs where video_id = video and stage = stage_name and state in ('running', 'done') $$;

create function chaos.watch_video() returns trigger language plpgsql as $$
declare
  wrote int;
begin
  if new.sha256 is distinct from old.sha256 then
    wrote := get_byte(new.sha256, 16) * 256 + get_byte(new.sha256, 17);
    if wrote is distinct from chaos.attempt_of(new.id, 'duplicate_detection') then
      insert into chaos.late (video, detail)
      values (new.id, 'duplicate_detection: hash of attempt ' || wrote);
    end if;
  end if;
  if new.media is distinct from old.media then
    wrote := chaos.signed(new.media->>'container');
    if wrote is distinct from chaos.attempt_of(new.id, 'transcode')
       or wrote is distinct from (new.playback->>'attempt')::int then
      insert into chaos.late (video, detail) values (new.id, 'transcode: playback of attempt ' || wrote);
    end if;
  end if;
  if old.state in ('ready', 'failed', 'duplicate') and new.state <> old.state then
    insert into chaos.late (video, detail) values (new.id, old.state || ' became ' || new.state);
  end if;
  return null;
end $$;
create trigger chaos_video after update on videos
  for each row execute function chaos.watch_video();

create function chaos.watch_embedding() returns trigger language plpgsql as $$
begin
  if chaos.signed(new.model) is distinct from chaos.attempt_of(new.video_id, 'embeddings') then
    insert into chaos.late (video, detail) values (new.video_id, 'embeddings: vector of ' || new.model);
  end if;
  return null;
end $$;
create trigger chaos_embedding after insert or update on embeddings
  for each row execute function chaos.watch_embedding();

-- An attempt's objects are as long as 1,000 bytes and its number.
create function chaos.watch_object() returns trigger language plpgsql as $$
begin
  if new.key like '%/segments/%' and new.size_bytes - 1000 <> new.attempt then
    insert into chaos.late (video, detail)
    values (new.video_id, format('attempt %s announced %s as of %s', new.size_bytes - 1000, new.key, new.attempt));
  end if;
  return null;
end $$;
create trigger chaos_object after insert or update on objects
  for each row execute function chaos.watch_object();
