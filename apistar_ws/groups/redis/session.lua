-- Whether a later session of the same process is there: what the earlier one has sent comes too late, and is ignored.
local function is_late(sessions, id, number)
  return tonumber(redis.call('HGET', sessions, id) or 0) > tonumber(number)
end
