-- How gc finds its work without reading everything: attempts that did not win leave objects which nothing names.

alter table jobs add column collected_at timestamptz;
comment on column jobs.collected_at is 'When gc removed what attempts that did not win left in the bucket; null: not yet, or there is nothing to look for.';
create index jobs_uncollected on jobs (finished_at)
  where collected_at is null and stage in ('transcode', 'speech_to_text')
    and state in ('done', 'dead', 'cancelled') and (attempt > 1 or state <> 'done');
create index objects_processing on objects (created_at) where key like 'thumbnails/%\_processing.jpg';
