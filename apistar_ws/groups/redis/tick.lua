-- The one script of a process that is idle: renews its lease and what it uses, removes what the dead have left, and
-- sends the probe. Passes at the limit of memory.
-- KEYS: all sessions. ARGV: the prefix, the process, the number of its session, milliseconds of the lease, those of
-- presence, the channel of the probe, the probe, the channels of changes up to the group, then of groups that are used:
-- the name, milliseconds that its record is kept with messages and without, or 0, and how many members are here.
-- Returns whether the process is known by this number and its lease was alive, then the groups with other members.
local prefix, id, kept = ARGV[1], ARGV[2], ARGV[5]
redis.call('PUBLISH', ARGV[6], ARGV[7])
local is_alive = redis.call('PEXPIRE', prefix .. ':lease:' .. id, ARGV[4]) == 1
redis.call('PEXPIRE', prefix .. ':groups:' .. id, kept)
redis.call('PEXPIRE', KEYS[1], kept)
local differing = {0}
for i = 9, #ARGV, 4 do
  local record = prefix .. ':record:' .. ARGV[i]
  if ARGV[i + 1] ~= '0' then
    redis.call('PEXPIRE', record, redis.call('HGET', record, 'top') == '0' and ARGV[i + 2] or ARGV[i + 1])
  end
  local present, members = prefix .. ':present:' .. ARGV[i], prefix .. ':members:' .. id .. ':' .. ARGV[i]
  redis.call('PEXPIRE', present, kept)
  redis.call('PEXPIRE', members, kept)
  local count, is_listed = tonumber(ARGV[i + 3]), redis.call('SISMEMBER', present, id) == 1
  is_listed = is_listed and redis.call('SISMEMBER', prefix .. ':groups:' .. id, ARGV[i]) == 1
  if redis.call('HLEN', members) ~= count or (count > 0 and not is_listed) then differing[#differing + 1] = ARGV[i] end
end
local budget = 1000
for _, dead in ipairs(redis.call('HKEYS', KEYS[1])) do
  if budget > 0 and redis.call('EXISTS', prefix .. ':lease:' .. dead) == 0 then
    local groups = prefix .. ':groups:' .. dead
    local name = redis.call('SPOP', groups)
    while name do
      budget = budget - 1 - remove(prefix, dead, name, ARGV[8])
      name = budget > 0 and redis.call('SPOP', groups)
    end
    if redis.call('EXISTS', groups) == 0 then redis.call('HDEL', KEYS[1], dead) end
  end
end
if is_alive and redis.call('HGET', KEYS[1], id) == ARGV[3] then differing[1] = 1 end
return differing
