#!lua flags=allow-oom
-- What BLMOVE does, without the wait: a full Redis refuses BLMOVE, and must be drained all the same.
-- KEYS waiting, taken
return redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
