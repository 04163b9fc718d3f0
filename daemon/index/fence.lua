-- The beginning of every script of the mapping: only the holder of the lease at KEYS[2] changes anything.
-- ARGV[1] is the stamp of the caller's lease, "epoch:token", or '' for a caller without one. The rest of ARGV is for the script.

local stamp = table.remove(ARGV, 1)

-- Return the error for a caller that does not hold the lease. STALE: somebody else has taken it since. UNHELD: the caller has
-- not taken it yet, or Redis has lost it. Epochs only grow, so an epoch below the caller's is an earlier state of Redis.
local function refusal()
  local held = redis.call('HMGET', KEYS[2], 'epoch', 'token')
  if held[1] and held[2] and held[1] .. ':' .. held[2] == stamp then return nil end
  local epoch = tonumber(string.match(stamp, '^%d+'))
  if epoch and epoch <= tonumber(held[1] or 0) then return redis.error_reply('STALE the lease is held by another writer') end
  return redis.error_reply('UNHELD the caller does not hold the lease')
end

-- Call the function that ARGV[1] names: a question for everybody, a change for the holder alone.
local function fenced(questions, changes)
  local question = questions[ARGV[1]]
  if question then return question(ARGV) end
  return refusal() or changes[ARGV[1]](ARGV)
end
