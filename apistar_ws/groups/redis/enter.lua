-- Renews the lease of a process or takes it, notes the number of its session, and returns the groups in which the
-- process is listed. At the limit of memory the lease is renewed all the same.
-- KEYS: all sessions. ARGV: the prefix, the process, the number, milliseconds of the lease, those of presence.
local prefix, id = ARGV[1], ARGV[2]
local lease = prefix .. ':lease:' .. id
local is_alive = redis.call('PEXPIRE', lease, ARGV[4]) == 1
if is_late(KEYS[1], id, ARGV[3]) then return {} end
redis.call('HSET', KEYS[1], id, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if not is_alive then redis.call('SET', lease, 1, 'PX', ARGV[4]) end
return redis.call('SMEMBERS', prefix .. ':groups:' .. id)
