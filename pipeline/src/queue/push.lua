#!lua flags=allow-oom
-- Bounded push: appends ids while the list is shorter than the window and returns how many it took.
-- allow-oom: the window bounds what this adds to a few kilobytes, and a Redis that others have filled would never drain.
-- KEYS waiting   ARGV window, id...
local room = tonumber(ARGV[1]) - redis.call('LLEN', KEYS[1])
local taken = 0
for i = 2, #ARGV do
  if taken >= room then break end
  redis.call('RPUSH', KEYS[1], ARGV[i])
  taken = taken + 1
end
return taken
