-- Where a group stands: its epoch and the offset of its last message. A record of another history, or none, begins a new
-- epoch and an empty stream, so that an epoch never goes on behind a loss.
local function place(record, stream, token, epoch, ttl)
  local known = redis.call('HMGET', record, 'token', 'epoch', 'top')
  if known[1] == token and known[2] and known[3] then return known[2], tonumber(known[3]) end
  redis.call('DEL', stream)
  redis.call('HSET', record, 'token', token, 'epoch', epoch, 'top', 0)
  redis.call('PEXPIRE', record, ttl)
  return epoch, 0
end
