-- Returns the token of the history of this server, and its generation: the same token promises that nothing was lost.
-- A restart changes the run id; a fail-over changes the replication id and moves the old one to master_replid2. A first
-- replica or backup changes the replication id as well, and leaves master_replid2 zero: nothing is lost by that.
-- Where nothing differs, nothing is written but times to live, so that it passes at the limit of memory.
-- KEYS: the history, all leases. ARGV: a new token, the highest generation that the process has seen, milliseconds that
-- presence is kept.
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local run = string.match(info, 'run_id:(%x+)')
local replication = string.match(info, 'master_replid:(%x+)')
local previous = string.match(info, 'master_replid2:(%x+)')
local known = redis.call('HMGET', KEYS[1], 'run', 'replication', 'token', 'generation')
local generation, seen = tonumber(known[4] or 0), tonumber(ARGV[2])
local is_same_line = known[2] == replication or not string.find(previous or '', '[1-9a-f]')
if known[3] and known[1] == run and is_same_line and generation >= seen then
  if known[2] ~= replication then redis.pcall('HSET', KEYS[1], 'replication', replication) end
  return {known[3], generation}
end
generation = math.max(generation, seen) + 1
redis.call('HSET', KEYS[1], 'run', run, 'replication', replication or '', 'token', ARGV[1], 'generation', generation)
redis.call('PERSIST', KEYS[1])
return {ARGV[1], generation}
