-- Returns how many there are. KEYS and ARGV: as for MEMBERS.
local count = 0
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. ':lease:' .. id) == 1 then
    count = count + redis.call('HLEN', ARGV[1] .. ':members:' .. id .. ':' .. ARGV[2])
  end
end
return count
