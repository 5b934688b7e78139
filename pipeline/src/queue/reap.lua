#!lua flags=allow-oom
-- Moves the ids of a worker without heartbeat back to the head of the queue. Returns -1 for a live worker, else how many
-- it moved. allow-oom: a full Redis must still drain, and a move needs no memory to speak of.
-- KEYS taken, waiting, heartbeat, workers   ARGV worker
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local moved = 0
while moved < 200 do
  if not redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') then break end
  moved = moved + 1
end
-- The worker leaves the registry only when nothing of it is left: a longer list is finished by the next round.
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('SREM', KEYS[4], ARGV[1]) end
return moved
