-- The mapping's changes, each one atomic. One script, so that they share what they do. It stands behind fence.lua, and ARGV[1] names
-- the change. KEYS[1] is the library's prefix. Numbers stay strings: ids and nanoseconds are larger than a Lua number holds exactly.

local prefix = KEYS[1]
local files, photos, inodes = prefix .. ':files', prefix .. ':photos', prefix .. ':inodes'
local intents, failures = prefix .. ':intents', prefix .. ':failures'
local aside = prefix .. ':aside'

local function file_key(path) return prefix .. ':file:' .. path end
local function photo_key(id) return prefix .. ':photo:' .. id end
local function paths_key(id) return prefix .. ':paths:' .. id end

-- The entry of a path's inode, once the path stands for another inode or for none.
local function drop_inode(path, device, inode)
  local key = device .. ':' .. inode
  if redis.call('HGET', inodes, key) == path then redis.call('HDEL', inodes, key) end
end

-- Take a path from its photo. Returns the photo's id when that was its last path; the id is then an intent to remove it.
local function unbind(path)
  local file = redis.call('HMGET', file_key(path), 'id', 'device', 'inode')
  local id = file[1]
  if not id then return false end
  redis.call('DEL', file_key(path))
  redis.call('ZREM', files, path)
  drop_inode(path, file[2], file[3])
  redis.call('SREM', paths_key(id), path)
  if redis.call('EXISTS', paths_key(id)) == 1 then return false end
  redis.call('SADD', intents, id)
  return id
end

local function bind(path, id, size, mtime, device, inode)
  redis.call('HSET', file_key(path), 'id', id, 'size', size, 'mtime_ns', mtime, 'device', device, 'inode', inode)
  redis.call('ZADD', files, 0, path)
  redis.call('HSET', inodes, device .. ':' .. inode, path)
  redis.call('SADD', paths_key(id), path)
  redis.call('HDEL', failures, path)
end

-- The photo a path was bound to before it became `id`, if nothing else holds that one.
local function rebind(path, id, size, mtime, device, inode)
  local orphan = false
  local was = redis.call('HMGET', file_key(path), 'id', 'device', 'inode')
  if was[1] == id then drop_inode(path, was[2], was[3]) else orphan = unbind(path) end
  bind(path, id, size, mtime, device, inode)
  return orphan
end

local change = {}

-- path id size mtime device inode, then what the photo is, then the collections that hold its vector
function change.add(a)
  local path, id = a[2], a[3]
  redis.call('HSET', photo_key(id), 'digest', a[8], 'width', a[9], 'height', a[10], 'format', a[11], 'taken_at', a[12], 'bytes', a[13])
  redis.call('SADD', photos, id)
  for i = 14, #a do redis.call('SADD', prefix .. ':encoded:' .. a[i], id) end
  local orphan = rebind(path, id, a[4], a[5], a[6], a[7])
  redis.call('SREM', intents, id)
  redis.call('ZREM', aside, id)
  return {1, orphan}
end

-- path id size mtime device inode moved_from rescue: the photo is known. Refused (0) when it is no longer, or is on its way out
-- and rescue is not '1': the caller's, who knows that its vectors are still there.
function change.bind(a)
  local path, id, moved_from, rescue = a[2], a[3], a[8], a[9] == '1'
  if redis.call('EXISTS', photo_key(id)) == 0 then return {0, false} end
  if not rescue and redis.call('SISMEMBER', intents, id) == 1 then return {0, false} end
  local orphan = rebind(path, id, a[4], a[5], a[6], a[7])
  if moved_from ~= '' and moved_from ~= path then
    -- Only if it still stands for this very file: its path may hold another one by now.
    local was = redis.call('HMGET', file_key(moved_from), 'id', 'device', 'inode')
    if was[1] == id and was[2] == a[6] and was[3] == a[7] then unbind(moved_from) end
  end
  return {1, orphan}
end

-- path
function change.remove(a)
  redis.call('HDEL', failures, a[2])
  return {1, unbind(a[2])}
end

-- path seconds: the file is excluded. Without another path its photo is forgotten, and only its vectors are kept, for a while.
function change.exclude(a)
  local path = a[2]
  redis.call('HDEL', failures, path)
  local id = redis.call('HGET', file_key(path), 'id')
  -- A write of its vectors was cut short: nothing can be kept of it.
  local is_in_doubt = id and redis.call('SISMEMBER', intents, id) == 1
  local orphan = unbind(path)
  if not orphan or is_in_doubt then return {1, orphan} end
  redis.call('SREM', intents, id)
  redis.call('DEL', photo_key(id))
  redis.call('SREM', photos, id)
  redis.call('ZADD', aside, a[3], id)
  return {1, false}
end

-- path reason
function change.fail(a)
  redis.call('HSET', failures, a[2], a[3])
  return {1, unbind(a[2])}
end

-- id, then every collection: the vectors are deleted, and nothing holds the photo
function change.forget(a)
  local id = a[2]
  if redis.call('EXISTS', paths_key(id)) == 0 then
    redis.call('DEL', photo_key(id))
    redis.call('SREM', photos, id)
    for i = 3, #a do redis.call('SREM', prefix .. ':encoded:' .. a[i], id) end
  end
  redis.call('SREM', intents, id)
  redis.call('ZREM', aside, id)
  return {1, false}
end

-- collection: what is recorded of it, and which vectors it had
function change.forget_collection(a)
  redis.call('DEL', prefix .. ':encoded:' .. a[2])
  redis.call('HDEL', prefix .. ':collections', a[2])
  return 1
end

-- nothing: whether the fence lets the caller through
function change.nothing() return 1 end

-- folder facts holds: both change at once; no holds at all are ''
function change.remember(a)
  redis.call('HSET', prefix .. ':folders', a[2], a[3])
  if a[4] == '' then redis.call('HDEL', prefix .. ':holds', a[2]) else redis.call('HSET', prefix .. ':holds', a[2], a[4]) end
  return 1
end

-- folder: nothing is remembered of it any more
function change.forget_folder(a)
  redis.call('HDEL', prefix .. ':folders', a[2])
  redis.call('HDEL', prefix .. ':holds', a[2])
  return 1
end

-- command key …: one plain command of Redis that writes
function change.run(a) return redis.call(unpack(a, 2)) end

local ask = {}

-- first last limit: a page of the files in byte order, as path, "size mtime_ns inode", …
function ask.page(a)
  local paths = redis.call('ZRANGEBYLEX', files, a[2], a[3], 'LIMIT', 0, a[4])
  local page = {}
  for i, path in ipairs(paths) do
    local file = redis.call('HMGET', file_key(path), 'size', 'mtime_ns', 'inode')
    page[2 * i - 1] = path
    page[2 * i] = file[1] and file[2] and file[3] and (file[1] .. ' ' .. file[2] .. ' ' .. file[3]) or ''
  end
  return page
end

-- first last limit: the path that ends a page ('' at the end of all), then the ids of the photos of its files
function ask.ids(a)
  local paths = redis.call('ZRANGEBYLEX', files, a[2], a[3], 'LIMIT', 0, a[4])
  local page = {#paths == tonumber(a[4]) and paths[#paths] or ''}
  for _, path in ipairs(paths) do page[#page + 1] = redis.call('HGET', file_key(path), 'id') or nil end
  return page
end

return fenced(ask, change)
