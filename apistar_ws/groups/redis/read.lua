-- Reads where a group stands, and the first messages after an offset. KEYS: record, stream. ARGV: a new epoch, or nothing
-- to begin none; for how many milliseconds a record that is begun is kept; the offset or nothing; the bytes of a page.
-- Returns the epoch, the offsets of the first message that is kept and of the last one, and payloads.
local epoch, top = '', 0
local known = redis.call('HMGET', KEYS[1], 'token', 'epoch', 'top')
if ARGV[1] ~= '' then
  epoch, top = place(KEYS[1], KEYS[2], token, ARGV[1], ARGV[2])
elseif known[1] == token and known[3] then
  epoch, top = known[2], tonumber(known[3])
end
local found, size, limit, count = {}, 0, tonumber(ARGV[4]), 1
local offset = ARGV[3] == '' and top or tonumber(ARGV[3])
while epoch ~= '' and offset < top and size < limit do
  -- A few at a time, as many as may have room: no more is copied than a page and some messages.
  local entries = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', offset + 1), '+', 'COUNT', count)
  if #entries == 0 then break end
  for i = 1, #entries do
    if size < limit then
      found[#found + 1] = entries[i][2][2]
      size = size + #entries[i][2][2]
    end
  end
  offset = offset + #entries
  count = math.max(1, math.min(16, math.floor((limit - size) * #found / (size + 1))))
end
local first = epoch == '' and 1 or top - redis.call('XLEN', KEYS[2]) + 1
return {epoch, string.format('%.0f', first), string.format('%.0f', top), found}
