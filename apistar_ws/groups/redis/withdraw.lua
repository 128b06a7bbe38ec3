-- Removes members of one process from a group. KEYS: as for announce.lua. ARGV: the process, the number of its session,
-- the group, the channel, the notification, ids. Passes at the limit of memory.
if is_late(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
local removed = 0
for i = 6, #ARGV do removed = removed + redis.call('HDEL', KEYS[3], ARGV[i]) end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('SREM', KEYS[4], ARGV[3])
end
if removed > 0 then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return removed
