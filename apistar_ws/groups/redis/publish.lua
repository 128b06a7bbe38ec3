-- Sends messages. KEYS: the record and the stream of each. ARGV: of each a new epoch, the channel,
-- how many messages are kept, for how many milliseconds, for how many the record, and what comes before and after the
-- place. Returns for each '+epoch.offset', '+' in a group without history, or the error behind '-', or behind '?' where
-- the message may reach somebody all the same.
local is_added = false
local function send(i)
  local at = 1 + (i - 1) * 7
  local channel, history, ttl = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local record, stream = KEYS[i * 2 - 1], KEYS[i * 2]
  if history == 0 then
    -- Whoever keeps a history of this group has a hole now.
    redis.call('DEL', record, stream)
    redis.call('PUBLISH', channel, ARGV[at + 5] .. '.' .. ARGV[at + 6])
    return '+'
  end
  local epoch, top = place(record, stream, token, ARGV[at], ARGV[at + 4])
  local offset = string.format('%.0f', top + 1)
  local where = epoch .. '.' .. offset
  local payload = ARGV[at + 5] .. where .. ARGV[at + 6]
  local added = redis.pcall('XADD', stream, 'MAXLEN', history, offset .. '-0', 'p', payload)
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller') then error(added.err) end
    redis.call('DEL', record)
    return send(i)
  end
  is_added = true
  redis.call('HSET', record, 'top', offset)
  redis.call('PEXPIRE', stream, ttl)
  redis.call('PEXPIRE', record, ARGV[at + 4])
  redis.call('PUBLISH', channel, payload)
  return '+' .. where
end
local results = {}
for i = 1, #KEYS / 2 do
  is_added = false
  local done, result = pcall(send, i)
  local mark = is_added and '?' or '-'
  results[i] = done and result or mark .. (type(result) == 'table' and result.err or tostring(result))
end
return results
