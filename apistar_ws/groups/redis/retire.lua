-- Removes all members of a process at its end. KEYS: all sessions. ARGV: the prefix, the process, the number of its
-- session, the channels of changes up to the group.
local prefix, id = ARGV[1], ARGV[2]
if is_late(KEYS[1], id, ARGV[3]) then return 0 end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. ':groups:' .. id)) do remove(prefix, id, name, ARGV[4]) end
redis.call('DEL', prefix .. ':groups:' .. id, prefix .. ':lease:' .. id)
redis.call('HDEL', KEYS[1], id)
return 1
