-- A lease at KEYS[1], a hash: `epoch`, which grows with each taking and outlives a release; `token`, which no other taking has;
-- `renewals`, a count; and what Owner.fields() says of the holder. A free lease has no token. No time is kept here: whoever wants
-- the lease sees by itself that `renewals` stands still. ARGV[1] names what is asked for.

local key = KEYS[1]
local command = {}

local function field(name) return redis.call('HGET', key, name) or '' end

-- every field of the lease, each before its value
function command.look() return redis.call('HGETALL', key) end

-- seen_token seen_renewals least_epoch, then the fields of the taker: its epoch, or 0 where the lease is not as it was seen
function command.take(a)
  if field('token') ~= a[2] or field('renewals') ~= a[3] then return 0 end
  local epoch = math.max(tonumber(redis.call('HGET', key, 'epoch') or 0) + 1, tonumber(a[4]))
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', string.format('%d', epoch), 'renewals', '0', unpack(a, 5))
  return epoch
end

-- token: 1 when it still is the holder's
function command.renew(a)
  if field('token') ~= a[2] then return 0 end
  redis.call('HINCRBY', key, 'renewals', 1)
  return 1
end

-- token
function command.release(a)
  if field('token') ~= a[2] then return 0 end
  local epoch = field('epoch')
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', epoch)
  return 1
end

return command[ARGV[1]](ARGV)
