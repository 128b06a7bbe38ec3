-- Reads the place of a group, and the messages after an offset. KEYS: record, stream. ARGV: a new epoch, for how many
-- milliseconds the record is kept, the offset or nothing. Returns the epoch, the offset of the last, messages.
local epoch, top = place(KEYS[1], KEYS[2], token, ARGV[1], ARGV[2])
local found = {}
if ARGV[3] ~= '' and tonumber(ARGV[3]) < top then
  found = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', tonumber(ARGV[3]) + 1), '+')
end
return {epoch, string.format('%.0f', top), found}
