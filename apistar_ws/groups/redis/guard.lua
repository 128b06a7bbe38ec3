-- Before every other script but open.lua: a session whose history is over changes nothing, and gets an error.
-- KEYS: first the history of this server. ARGV: first the token that the session has read. The others are the script's.
local token = table.remove(ARGV, 1)
if redis.call('HGET', table.remove(KEYS, 1), 'token') ~= token then
  return redis.error_reply('OTHERHISTORY what was sent before is not in the history of this server any more')
end
