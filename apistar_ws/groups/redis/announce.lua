-- Adds members of one process to a group. KEYS: all sessions, the processes of the group, its members in this one, the
-- groups of the process. ARGV: the process, the number of its session, the group, milliseconds that the keys are kept,
-- the channel, the notification, id and JSON of each.
if is_late(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
for at = 7, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1]) end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[3])
for i = 2, 4 do redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
