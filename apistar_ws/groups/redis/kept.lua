-- Reads what is kept, and begins nothing. KEYS: record, stream. ARGV: the offset or nothing, a limit or nothing. Returns
-- as read.lua; without an offset the last ones, the last one first.
local known = redis.call('HMGET', KEYS[1], 'token', 'epoch', 'top')
if known[1] ~= token or not known[3] then return {'', '0', {}} end
local found
if ARGV[1] ~= '' then
  local from = string.format('%.0f-0', tonumber(ARGV[1]) + 1)
  if ARGV[2] == '' then found = redis.call('XRANGE', KEYS[2], from, '+')
  else found = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[2]) end
elseif ARGV[2] == '' then found = redis.call('XREVRANGE', KEYS[2], '+', '-')
else found = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[2]) end
return {known[2], known[3], found}
