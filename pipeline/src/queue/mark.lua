#!lua flags=allow-oom
-- Leaves the mark by which an emptied Redis is known. Returns 1 if it was not there.
-- KEYS marker
if redis.call('SET', KEYS[1], '1', 'NX') then return 1 end
return 0
