-- A cause of failure more: a source that the scratch disk of the workers could never hold. Only added to (expand): to an
-- older binary a cause is text.

create or replace function remedy(cause text) returns text
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
    when 'scratch_too_small'  then 'give workers a larger CLIPSTREAM_SCRATCH, then run the stage again'
    when 'cancelled'          then 'an operator did this: run the stage again if it shall go on'
    else                           'the log says more; run the stage again after an upgrade'
  end
$$;
