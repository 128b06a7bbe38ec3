-- Makes the members of one process in some groups those that it names, and publishes the difference.
-- KEYS: all sessions. ARGV: the prefix, the process, the number of its session, milliseconds that the keys are kept, the
-- channels of changes up to the group; then of each group the name, how many there are, and id and JSON of each.
local prefix, id = ARGV[1], ARGV[2]
if is_late(KEYS[1], id, ARGV[3]) then return 0 end
local function replace(name, first, last)
  local members, present = prefix .. ':members:' .. id .. ':' .. name, prefix .. ':present:' .. name
  local groups, left, joined = prefix .. ':groups:' .. id, {}, {}
  local gone = {}
  for _, known in ipairs(redis.call('HKEYS', members)) do gone[known] = true end
  for at = first, last, 2 do
    if not gone[ARGV[at]] then
      redis.call('HSET', members, ARGV[at], ARGV[at + 1])
      joined[#joined + 1] = ARGV[at + 1]
    end
    gone[ARGV[at]] = nil
  end
  for known in pairs(gone) do
    redis.call('HDEL', members, known)
    left[#left + 1] = cjson.encode(known)
  end
  local change = first > last and 'SREM' or 'SADD'
  redis.call(change, present, id)
  redis.call(change, groups, name)
  for _, key in ipairs({members, present, groups}) do redis.call('PEXPIRE', key, ARGV[4]) end
  if #joined + #left > 0 then
    local notification = '[[' .. table.concat(joined, ',') .. '],[' .. table.concat(left, ',') .. ']]'
    redis.call('PUBLISH', ARGV[5] .. name, notification)
  end
end
local at = 6
while ARGV[at] do
  local last = at + 1 + 2 * tonumber(ARGV[at + 1])
  replace(ARGV[at], at + 2, last)
  at = last + 1
end
return 1
