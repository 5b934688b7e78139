#!lua flags=allow-oom
-- What BLMOVE does, without the wait and for up to so many ids. allow-oom: a full Redis refuses BLMOVE, and must be drained
-- all the same. Returns the ids.
-- KEYS waiting, taken   ARGV most
local ids = {}
while #ids < tonumber(ARGV[1]) do
  local id = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not id then break end
  ids[#ids + 1] = id
end
return ids
