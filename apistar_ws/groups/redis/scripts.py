"""What runs inside Redis, each script in one step that nobody else sees half done.

A group with history has a record (its epoch, its last offset, and the run of Redis that both belong to) and a stream. A
record of another run, or none, begins a new epoch: what was sent before cannot be proven whole.
"""

import hashlib
from typing import NamedTuple

#: Milliseconds that a record is kept longer than its messages, and that presence is kept; renewed while it is used.
KEPT_LONGER_MS = 3_600_000


class Names(NamedTuple):
    """What keys and channels are called.

    A channel has the number of the database, which its subscribers would not see otherwise.
    """

    prefix: str
    database: int

    def key(self, *parts: str) -> str:
        """Return the name of a key."""
        return ':'.join((self.prefix, *parts))

    def channel(self, kind: str, name: str) -> bytes:
        """Return the name of a channel."""
        return ('%s:%d:%s:%s' % (self.prefix, self.database, kind, name)).encode()


LUA_PLACE = """
local function place(record, stream, run, epoch, ttl)
  local known = redis.call('HMGET', record, 'run', 'epoch', 'top')
  if known[1] == run and known[2] and known[3] then return known[2], tonumber(known[3]) end
  redis.call('DEL', stream)
  redis.call('HSET', record, 'run', run, 'epoch', epoch, 'top', 0)
  redis.call('PEXPIRE', record, ttl)
  return epoch, 0
end
"""


#: Removes what is announced in a group under one lease, and tells who has gone: who is not there under another one.
REMOVE = """
local function remove(prefix, lease, name, channels)
  local key = prefix .. ':members:' .. lease .. ':' .. name
  local ids, gone = redis.call('HKEYS', key), {}
  redis.call('DEL', key)
  redis.call('SREM', prefix .. ':present:' .. name, lease)
  local others = redis.call('SMEMBERS', prefix .. ':present:' .. name)
  for _, id in ipairs(ids) do
    local is_there = false
    for _, other in ipairs(others) do
      is_there = is_there or redis.call('HEXISTS', prefix .. ':members:' .. other .. ':' .. name, id) == 1
    end
    if not is_there then gone[#gone + 1] = id end
  end
  if #gone > 0 then redis.call('PUBLISH', channels .. name, cjson.encode({{}, gone})) end
  return #ids
end
"""


class Script:
    """A script, and the digest by which Redis knows it.

    :param text: the script.
    """

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text).hexdigest()


#: Sends messages. KEYS: the record and the stream of each. ARGV: the run, a new epoch for each, then of each: channel,
#: how many messages are kept, for how many milliseconds, for how many the record, and what comes before and after the
#: place. Returns for each '+epoch.offset', '+' in a group without history, or the error behind '-', or behind '?' where
#: the message may reach somebody all the same.
PUBLISH = Script(
    LUA_PLACE
    + """
local run, is_added = ARGV[1], false
local function send(i)
  local at = 2 + (i - 1) * 7
  local channel, history, ttl = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local record, stream = KEYS[i * 2 - 1], KEYS[i * 2]
  if history == 0 then
    -- Whoever keeps a history of this group has a hole now.
    redis.call('DEL', record, stream)
    redis.call('PUBLISH', channel, ARGV[at + 5] .. '.' .. ARGV[at + 6])
    return '+'
  end
  local epoch, top = place(record, stream, run, ARGV[at], ARGV[at + 4])
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
"""
)

#: Reads the place of a group, and the messages after an offset. KEYS: record, stream. ARGV: the run, a new epoch, for
#: how many milliseconds the record is kept, the offset or nothing. Returns the epoch, the offset of the last, messages.
READ = Script(
    LUA_PLACE
    + """
local epoch, top = place(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
local found = {}
if ARGV[4] ~= '' and tonumber(ARGV[4]) < top then
  found = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', tonumber(ARGV[4]) + 1), '+')
end
return {epoch, string.format('%.0f', top), found}
"""
)

#: Reads what is kept, and begins nothing. KEYS: record, stream. ARGV: the run, the offset or nothing, a limit or
#: nothing. Returns as READ; without an offset the last ones, the last one first.
HISTORY = Script(
    """
local known = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'top')
if known[1] ~= ARGV[1] or not known[3] then return {'', '0', {}} end
local found
if ARGV[2] ~= '' then
  local from = string.format('%.0f-0', tonumber(ARGV[2]) + 1)
  if ARGV[3] == '' then found = redis.call('XRANGE', KEYS[2], from, '+')
  else found = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[3]) end
elseif ARGV[3] == '' then found = redis.call('XREVRANGE', KEYS[2], '+', '-')
else found = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[3]) end
return {known[2], known[3], found}
"""
)

#: Adds members of one process. KEYS: the leases of the group, the members under this one, the groups of the lease.
#: ARGV: the lease, the group, milliseconds that the keys are kept, the channel, what is told, id and JSON of each.
ANNOUNCE = Script(
    """
local at = 6
while ARGV[at] do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1
"""
)

#: Removes members of one process. KEYS: as for ANNOUNCE. ARGV: the lease, the group, the channel, what is told, ids.
WITHDRAW = Script(
    """
local removed = 0
for i = 5, #ARGV do removed = removed + redis.call('HDEL', KEYS[2], ARGV[i]) end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[3], ARGV[2])
end
if removed > 0 then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return removed
"""
)

#: Removes what was announced under an older lease of this process, or at its end. KEYS: all leases. ARGV: the prefix,
#: the lease, the channels of changes up to the group.
RETIRE = Script(
    REMOVE
    + """
local prefix, lease = ARGV[1], ARGV[2]
for _, name in ipairs(redis.call('SMEMBERS', prefix .. ':groups:' .. lease)) do
  remove(prefix, lease, name, ARGV[3])
end
redis.call('DEL', prefix .. ':groups:' .. lease, prefix .. ':lease:' .. lease)
redis.call('SREM', KEYS[1], lease)
return 1
"""
)

#: Returns the members of a group under the leases that are alive, as JSON. KEYS: the leases of the group. ARGV: the
#: prefix, the group, a limit or nothing.
MEMBERS = Script(
    """
local prefix, name, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = {}
for _, lease in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', prefix .. ':lease:' .. lease) == 1 then
    local key, cursor = prefix .. ':members:' .. lease .. ':' .. name, '0'
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
"""
)

#: Returns how many there are. KEYS and ARGV: as for MEMBERS.
COUNT = Script(
    """
local count = 0
for _, lease in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. ':lease:' .. lease) == 1 then
    count = count + redis.call('HLEN', ARGV[1] .. ':members:' .. lease .. ':' .. ARGV[2])
  end
end
return count
"""
)

#: The one command of a process that is idle: renews its lease and what it uses, removes what the dead have left, and
#: sends the probe. KEYS: all leases, this lease, its groups. ARGV: the prefix, the lease, its milliseconds, those of
#: presence, the channel of the probe, the probe, the channels of changes up to the group, then of groups that are used:
#: the name, and milliseconds that its record is kept or 0. Returns 0 if the lease was lost.
TICK = Script(
    REMOVE
    + """
local prefix, lease = ARGV[1], ARGV[2]
redis.call('PUBLISH', ARGV[5], ARGV[6])
local alive = redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
for i = 8, #ARGV, 2 do
  if ARGV[i + 1] ~= '0' then redis.call('PEXPIRE', prefix .. ':record:' .. ARGV[i], ARGV[i + 1]) end
  redis.call('PEXPIRE', prefix .. ':present:' .. ARGV[i], ARGV[4])
  redis.call('PEXPIRE', prefix .. ':members:' .. lease .. ':' .. ARGV[i], ARGV[4])
end
local budget = 1000
for _, dead in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if budget > 0 and redis.call('EXISTS', prefix .. ':lease:' .. dead) == 0 then
    local groups = prefix .. ':groups:' .. dead
    local name = redis.call('SPOP', groups)
    while name do
      budget = budget - 1 - remove(prefix, dead, name, ARGV[7])
      name = budget > 0 and redis.call('SPOP', groups)
    end
    if redis.call('EXISTS', groups) == 0 then redis.call('SREM', KEYS[1], dead) end
  end
end
return alive
"""
)
