-- Removes all members of one process from a group, publishes who has left, and returns how many there were.
local function remove(prefix, id, name, channels)
  local key = prefix .. ':members:' .. id .. ':' .. name
  local gone = redis.call('HKEYS', key)
  redis.call('DEL', key)
  redis.call('SREM', prefix .. ':present:' .. name, id)
  if #gone > 0 then redis.call('PUBLISH', channels .. name, '[[],' .. cjson.encode(gone) .. ']') end
  return #gone
end
