-- Returns the members of a group of the processes whose leases are alive, as JSON. KEYS: the processes of the group. ARGV: the
-- prefix, the group, a limit or nothing.
local prefix, name, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', prefix .. ':lease:' .. id) == 1 then
    local key, cursor = prefix .. ':members:' .. id .. ':' .. name, '0'
    if not limit then
      for _, value in ipairs(redis.call('HVALS', key)) do found[#found + 1] = value end
    else
      repeat
        local page = redis.call('HSCAN', key, cursor, 'COUNT', 100)
        cursor = page[1]
        for i = 2, #page[2], 2 do
          if #found < limit then found[#found + 1] = page[2][i] end
        end
      until cursor == '0' or #found >= limit
    end
  end
end
return found
