#!lua flags=allow-oom
-- Returns one taken id to the head of the queue, if it is still in the worker's list: a second call changes nothing.
-- KEYS taken, waiting   ARGV id
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
