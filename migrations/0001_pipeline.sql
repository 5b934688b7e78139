-- The tables of the pipeline. Postgres is the truth: Redis carries hints made from these rows, MinIO holds the bytes.
-- Every state change is one guarded statement (see pipeline/src/db); nothing here needs BEGIN.

create table owners (
  id         uuid primary key,
  name       text not null unique,
  created_at timestamptz not null default now()
);
comment on table  owners            is 'Who videos, API keys and quotas belong to.';
comment on column owners.id         is 'UUID v7.';
comment on column owners.name       is 'Short unique name; "default" owns what nobody announced.';
comment on column owners.created_at is 'When the owner was made.';

insert into owners (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

create table api_keys (
  id         uuid primary key,
  owner_id   uuid not null references owners,
  name       text not null,
  key_sha256 bytea not null unique check (octet_length(key_sha256) = 32),
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);
comment on table  api_keys            is 'Keys for /v1. Only the hash is kept: a lost key is replaced, not recovered.';
comment on column api_keys.id         is 'UUID v7, shown in listings.';
comment on column api_keys.owner_id   is 'Whose videos the key may see.';
comment on column api_keys.name       is 'What the operator called it.';
comment on column api_keys.key_sha256 is 'SHA-256 of the whole key; the key itself is 256 random bits.';
comment on column api_keys.created_at is 'When it was made.';
comment on column api_keys.revoked_at is 'From when it is refused; null while it works.';

create table videos (
  id                uuid primary key,
  owner_id          uuid not null references owners,
  stream_id         text,
  title             text,
  filename          text,
  bucket            text not null,
  object_key        text not null,
  identity          text not null default '',
  etag              text,
  version_id        text,
  sequencer         text,
  size_bytes        bigint check (size_bytes >= 0),
  content_type      text,
  announced_by      text not null check (announced_by in ('api', 'webhook', 'reconcile')),
  state             text not null check (state in
                      ('uploading', 'processing', 'ready', 'duplicate', 'failed', 'expired', 'deleting')),
  failure_cause     text,
  failure_detail    text,
  finished_stages   smallint not null default 0 check (finished_stages between 0 and 15),
  dead_stages       smallint not null default 0 check (dead_stages between 0 and 15),
  processing_index  smallint not null generated always as (
                      case when state = 'duplicate'         then 0
                           when finished_stages & 1 = 0     then 1
                           when finished_stages & 2 = 0     then 2
                           when finished_stages & 4 = 0     then 3
                           when finished_stages & 8 = 0     then 4
                           else 0 end) stored,
  sha256            bytea check (octet_length(sha256) = 32),
  original_claim    text check (original_claim in ('first_of_size', 'same_size')),
  duplicate_of      uuid references videos,
  media             jsonb,
  playback          jsonb,
  upload_expires_at timestamptz,
  created_at        timestamptz not null default now(),
  uploaded_at       timestamptz,
  playable_at       timestamptz,
  processed_at      timestamptz,
  updated_at        timestamptz not null default now(),
  unique (bucket, object_key, identity),
  check ((state = 'failed') = (failure_cause is not null)),
  check ((state = 'duplicate') = (duplicate_of is not null)),
  check (duplicate_of <> id),
  check (original_claim is null or state in ('processing', 'ready'))
);
comment on table  videos                   is 'One uploaded object version and everything made from it.';
comment on column videos.id                is 'UUID v7, chosen by us, never by the uploader.';
comment on column videos.owner_id          is 'Every query of the API is scoped by it.';
comment on column videos.stream_id         is 'Groups an owner''s videos; free text from the uploader.';
comment on column videos.title             is 'Shown to people.';
comment on column videos.filename          is 'The uploader''s file name. Never a key, never a path.';
comment on column videos.bucket            is 'Bucket of the source object.';
comment on column videos.object_key        is 'Key of the source object, decoded.';
comment on column videos.identity          is 'Which object under the key: "version:<id>", else "etag:<etag>"; empty until the object is there.';
comment on column videos.etag              is 'ETag without quotes. A hint: an uploader can forge it.';
comment on column videos.version_id        is 'Object version; null on an unversioned bucket.';
comment on column videos.sequencer         is 'Orders events of one key, hexadecimal. A hint: an uploader can forge it.';
comment on column videos.size_bytes        is 'Announced size while uploading, then the object''s.';
comment on column videos.content_type      is 'As announced or stored; never trusted for decoding.';
comment on column videos.announced_by      is 'What made the row: api, webhook or reconcile.';
comment on column videos.state             is 'uploading, processing, ready, duplicate, failed, expired (URL never used) or deleting.';
comment on column videos.failure_cause     is 'Closed list, see FailureCause; only with state failed.';
comment on column videos.failure_detail    is 'One sentence for a person, with the numbers.';
comment on column videos.finished_stages   is 'Bit (number - 1) set for each stage that is done. Kept on this row so that two stages that end at once serialise on its lock.';
comment on column videos.dead_stages       is 'Bit (number - 1) set for each stage whose job is dead, so that ready does not wait for it.';
comment on column videos.processing_index  is 'Number of the lowest stage that is not finished, 0 when all are done or, for a duplicate, none is wanted. Computed, so it cannot disagree.';
comment on column videos.sha256            is 'SHA-256 of the source, by whichever stage first read it all.';
comment on column videos.original_claim    is 'first_of_size: the first of its (owner, size), unread. same_size: an original whose size was taken, so its hash is known. Null: not an original (yet). Falls to null with the state, so that a failed video is nobody''s original.';
comment on column videos.duplicate_of      is 'The ready original with the same bytes; playback resolves to it.';
comment on column videos.media             is 'Facts of the source: duration_ms, width, height, frame_rate, codecs.';
comment on column videos.playback          is 'The published renditions and their attempt, as transcode committed them.';
comment on column videos.upload_expires_at is 'When the presigned URL ends; null for an object nobody announced.';
comment on column videos.created_at        is 'When the row was made.';
comment on column videos.uploaded_at       is 'When the object was first seen, by webhook or listing.';
comment on column videos.playable_at       is 'When the first segments of a rendition could be played.';
comment on column videos.processed_at      is 'When the video ended (ready, duplicate or failed).';
comment on column videos.updated_at        is 'Last step along the path.';

create index videos_by_owner on videos (owner_id, id desc);
create index videos_open on videos (upload_expires_at) where state = 'uploading';
create index videos_duplicates on videos (duplicate_of) where duplicate_of is not null;
create index videos_by_size on videos (owner_id, size_bytes) where original_claim is not null;
-- These two decide which of identical uploads is the original, also when they arrive in the same instant:
-- whoever inserts first holds the size; everybody else must know their hash to become an original.
create unique index videos_first_of_size on videos (owner_id, size_bytes) where original_claim = 'first_of_size';
create unique index videos_original_sha256 on videos (owner_id, sha256) where original_claim is not null;

create table jobs (
  id            uuid primary key,
  video_id      uuid not null references videos on delete cascade,
  owner_id      uuid not null references owners,
  stage         text not null check (stage in
                  ('duplicate_detection', 'transcode', 'speech_to_text', 'embeddings')),
  pipeline      int not null default 1,
  priority      smallint not null default 0,
  state         text not null default 'pending' check (state in ('pending', 'running', 'done', 'dead', 'cancelled')),
  attempt       int not null default 0,
  failures      int not null default 0,
  crashes       int not null default 0,
  lost_workers  int not null default 0,
  run_at        timestamptz not null default now(),
  dispatched_at timestamptz,
  waits_for     uuid references videos on delete set null,
  worker        uuid,
  lease_until   timestamptz,
  deadline_at   timestamptz,
  progress      real check (progress between 0 and 1),
  result        jsonb,
  failure_cause text,
  last_error    text,
  created_at    timestamptz not null default now(),
  started_at    timestamptz,
  finished_at   timestamptz,
  unique (video_id, stage, pipeline),
  check ((state = 'running') = (worker is not null)),
  check ((state = 'running') = (lease_until is not null))
) with (fillfactor = 70);
comment on table  jobs               is 'One (video, stage) to be done; also the outbox for Redis. Dead rows are never trimmed.';
comment on column jobs.id            is 'UUID v7; the only thing that goes to Redis.';
comment on column jobs.video_id      is 'The video.';
comment on column jobs.owner_id      is 'Copied from the video, for fair dispatch.';
comment on column jobs.stage         is 'duplicate_detection, transcode, speech_to_text or embeddings.';
comment on column jobs.pipeline      is 'Version of the stage''s work; a higher one is a new job.';
comment on column jobs.priority      is 'Higher goes first within an owner.';
comment on column jobs.state         is 'pending, running, done, dead or cancelled.';
comment on column jobs.attempt       is 'Fencing token: grows at each claim, never falls. Every write of a worker names it.';
comment on column jobs.failures      is 'Tries that failed for a reason of the work itself; outages are not counted.';
comment on column jobs.crashes       is 'Media children that died by their own doing.';
comment on column jobs.lost_workers  is 'Leases that ran out because the worker was gone.';
comment on column jobs.run_at        is 'Not before this time (back-off, or waiting for an original).';
comment on column jobs.dispatched_at is 'When its id was last pushed to Redis; null: to be pushed.';
comment on column jobs.waits_for     is 'The original whose end this duplicate detection waits for.';
comment on column jobs.worker        is 'Which worker runs it.';
comment on column jobs.lease_until   is 'Until when the worker holds it, on this database''s clock.';
comment on column jobs.deadline_at   is 'Hard end of the attempt, however alive the worker is.';
comment on column jobs.progress      is '0 to 1 of the running attempt.';
comment on column jobs.result        is 'What the committed attempt found, by stage.';
comment on column jobs.failure_cause is 'Why it is dead, or why its last try failed. Closed list, see FailureCause.';
comment on column jobs.last_error    is 'The last failure in words.';
comment on column jobs.created_at    is 'When it could first have run.';
comment on column jobs.started_at    is 'When the last attempt was claimed.';
comment on column jobs.finished_at   is 'When it was done, dead or cancelled.';

-- In the order of fair dispatch: the first rows of each owner are found without reading the rest of a long backlog.
create index jobs_due on jobs (stage, owner_id, priority desc, run_at, id) where state = 'pending' and dispatched_at is null;
create index jobs_in_flight on jobs (stage, owner_id) where state = 'running' or (state = 'pending' and dispatched_at is not null);
create index jobs_dispatched on jobs (stage, dispatched_at) where state = 'pending' and dispatched_at is not null;
create index jobs_leased on jobs (lease_until) where state = 'running';
create index jobs_waiting on jobs (waits_for) where waits_for is not null;

create table job_attempts (
  job_id        uuid not null references jobs on delete cascade,
  attempt       int not null,
  worker        uuid not null,
  started_at    timestamptz not null default now(),
  ended_at      timestamptz,
  outcome       text check (outcome in ('done', 'failed', 'waiting', 'released', 'crashed', 'lost')),
  failure_cause text,
  detail        text,
  primary key (job_id, attempt)
);
comment on table  job_attempts               is 'Every try of every job. Answers "did my commit go through?" after a cut connection.';
comment on column job_attempts.job_id        is 'The job.';
comment on column job_attempts.attempt       is 'The fencing token of the try.';
comment on column job_attempts.worker        is 'Who tried.';
comment on column job_attempts.started_at    is 'When it was claimed.';
comment on column job_attempts.ended_at      is 'When it ended; null while it runs.';
comment on column job_attempts.outcome       is 'done, failed, waiting, released (shutdown or outage), crashed (the child) or lost (the worker).';
comment on column job_attempts.failure_cause is 'Closed list, see FailureCause.';
comment on column job_attempts.detail        is 'The error in words.';

create table objects (
  video_id   uuid not null references videos,
  key        text primary key,
  size_bytes bigint not null check (size_bytes >= 0),
  attempt    int not null,
  created_at timestamptz not null default now()
);
comment on table  objects            is 'Every object of our own making, written here before it is PUT: what delete, gc and the storage check go by.';
comment on column objects.video_id   is 'Whose it is.';
comment on column objects.key        is 'Key in the bucket.';
comment on column objects.size_bytes is 'Size of the last version announced.';
comment on column objects.attempt    is 'Attempt that announced it.';
comment on column objects.created_at is 'When it was announced.';
create index objects_by_video on objects (video_id);

create table embeddings (
  video_id   uuid not null references videos on delete cascade,
  engine     text not null,
  model      text not null,
  owner_id   uuid not null references owners,
  dims       smallint not null check (dims > 0),
  scale      real not null check (scale > 0),
  vector     bytea not null check (octet_length(vector) = dims),
  attempt    int not null,
  created_at timestamptz not null default now(),
  primary key (video_id, engine, model)
);
comment on table  embeddings            is 'One vector per video and model. Vectors of different (engine, model, dims) are never compared.';
comment on column embeddings.video_id   is 'The video.';
comment on column embeddings.engine     is 'What computed it, e.g. builtin.';
comment on column embeddings.model      is 'Its version, e.g. look-1.';
comment on column embeddings.owner_id   is 'Copied from the video: similar videos are searched within an owner.';
comment on column embeddings.dims       is 'Length of the vector.';
comment on column embeddings.scale      is 'Component = signed byte x scale; the vector then has length 1.';
comment on column embeddings.vector     is 'Signed bytes, two''s complement.';
comment on column embeddings.attempt    is 'Attempt that committed it.';
comment on column embeddings.created_at is 'When it was committed.';
create index embeddings_by_owner on embeddings (owner_id, engine, model);

create table quarantined_events (
  id           bigint generated always as identity primary key,
  received_at  timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  times_seen   int not null default 1,
  body_sha256  bytea not null unique check (octet_length(body_sha256) = 32),
  reason       text not null,
  body         bytea not null,
  replayed_at  timestamptz
);
comment on table  quarantined_events              is 'Authenticated events that could not become a video. MinIO was told 200: a refusal would block all later events.';
comment on column quarantined_events.id           is 'For the operator''s commands.';
comment on column quarantined_events.received_at  is 'When it first came.';
comment on column quarantined_events.last_seen_at is 'When it last came: MinIO delivers twice and repeats.';
comment on column quarantined_events.times_seen   is 'How often the same bytes came.';
comment on column quarantined_events.body_sha256  is 'Makes the same event one row.';
comment on column quarantined_events.reason       is 'Why it could not be used, for a person.';
comment on column quarantined_events.body         is 'The request body as it came, at most 1 MiB.';
comment on column quarantined_events.replayed_at  is 'When an operator replayed it with success.';

create table reconcile_cursor (
  bucket     text not null,
  prefix     text not null,
  start_after text not null default '',
  updated_at timestamptz not null default now(),
  primary key (bucket, prefix)
);
comment on table  reconcile_cursor             is 'How far the listing of the bucket has come, so that a restart goes on there.';
comment on column reconcile_cursor.bucket      is 'Bucket.';
comment on column reconcile_cursor.prefix      is 'Prefix that is listed.';
comment on column reconcile_cursor.start_after is 'Last key of the last full page; empty at the start of a round.';
comment on column reconcile_cursor.updated_at  is 'When it moved.';
