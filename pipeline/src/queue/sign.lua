#!lua flags=allow-oom
-- A worker's sign of life. The registry first: a worker that has a list and is not registered would never be reaped.
-- allow-oom: a full Redis must not make the living look dead; this overwrites the same few bytes each time.
-- KEYS workers, heartbeat, taken   ARGV worker, alive_ms, forgotten_ms
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
