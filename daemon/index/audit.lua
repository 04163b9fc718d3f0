-- Where the mapping contradicts itself, and what mends it; each call is atomic, so what it sees is never half a change.
-- KEYS[1] is the library's prefix, ARGV[1] names the call. Numbers stay strings, as in mappings.lua.

local prefix = KEYS[1]
local files, photos, inodes, intents = prefix .. ':files', prefix .. ':photos', prefix .. ':inodes', prefix .. ':intents'

local fields = {'digest', 'width', 'height', 'format', 'taken_at', 'bytes'}

local function file_key(path) return prefix .. ':file:' .. path end
local function photo_key(id) return prefix .. ':photo:' .. id end
local function paths_key(id) return prefix .. ':paths:' .. id end

local function is_whole(key, ...)
  for _, value in ipairs({...}) do
    if redis.call('HEXISTS', key, value) == 0 then return false end
  end
  return true
end

-- What is wrong with one path, one photo or one inode, as a few words; false when nothing is, or nothing is there.
local wrong = {}

function wrong.path(path)
  local id, listed = redis.call('HGET', file_key(path), 'id'), redis.call('ZSCORE', files, path)
  if not id then return listed and 'it is listed, and nothing is recorded of it' end
  if not is_whole(file_key(path), 'size', 'mtime_ns', 'device', 'inode') then return 'it is recorded in part' end
  if not listed then return 'it is recorded, and not listed' end
  if redis.call('SISMEMBER', paths_key(id), path) == 0 then return 'its photo ' .. id .. ' does not know it' end
  return false
end

function wrong.photo(id)
  local listed, recorded = redis.call('SISMEMBER', photos, id) == 1, redis.call('EXISTS', photo_key(id)) == 1
  local paths = redis.call('SMEMBERS', paths_key(id))
  if not listed and (recorded or #paths > 0) then return 'it is recorded, and not listed' end
  if not listed then return false end
  if not recorded then return 'it is listed, and nothing is recorded of it' end
  if not is_whole(photo_key(id), unpack(fields)) then return 'it is recorded in part' end
  if #paths == 0 and redis.call('SISMEMBER', intents, id) == 0 then return 'no file holds it, and it is not on its way out' end
  for _, path in ipairs(paths) do
    if redis.call('HGET', file_key(path), 'id') ~= id then return 'it names a file that does not hold it: ' .. path end
  end
  return false
end

function wrong.inode(key)
  local path = redis.call('HGET', inodes, key)
  if not path then return false end
  local file = redis.call('HMGET', file_key(path), 'device', 'inode')
  return not (file[1] and file[2] and file[1] .. ':' .. file[2] == key) and 'it leads to a file without that inode: ' .. path
end

local function note(found, kind, name)
  local what = wrong[kind](name)
  if what then
    found[#found + 1] = kind
    found[#found + 1] = name
    found[#found + 1] = what
  end
end

local ask = {}

-- kind name: what is wrong there
function ask.look(a)
  local found = {}
  note(found, a[2], a[3])
  return found
end

-- The scans return where the next page begins ('0' or '' at the end), then kind, name and what is wrong, of each place.

-- first limit
function ask.files(a)
  local found, page = {}, redis.call('ZRANGEBYLEX', files, a[2], '+', 'LIMIT', 0, a[3])
  for _, path in ipairs(page) do note(found, 'path', path) end
  return {#page == tonumber(a[3]) and page[#page] or '', found}
end

-- cursor count; and of each photo its id and its digest, which only the caller can compare
function ask.photos(a)
  local page = redis.call('SSCAN', photos, a[2], 'COUNT', a[3])
  local found, digests = {}, {}
  for i, id in ipairs(page[2]) do
    note(found, 'photo', id)
    digests[2 * i - 1], digests[2 * i] = id, redis.call('HGET', photo_key(id), 'digest') or ''
  end
  return {page[1], found, digests}
end

-- cursor count
function ask.inodes(a)
  local page = redis.call('HSCAN', inodes, a[2], 'COUNT', a[3])
  local found = {}
  for i = 1, #page[2], 2 do note(found, 'inode', page[2][i]) end
  return {page[1], found}
end

-- cursor count: what is recorded, and in no list
function ask.keys(a)
  local page = redis.call('SCAN', a[2], 'MATCH', prefix .. ':*', 'COUNT', a[3])
  local found = {}
  for _, key in ipairs(page[2]) do
    local kind, name = string.match(string.sub(key, #prefix + 2), '^(%l+):(.*)$')
    if kind == 'file' and not redis.call('ZSCORE', files, name) then note(found, 'path', name) end
    local is_photo = (kind == 'photo' or kind == 'paths') and string.match(name, '^%d+$')
    if is_photo and redis.call('SISMEMBER', photos, name) == 0 then note(found, 'photo', name) end
  end
  return {page[1], found}
end

local function drop_file(path)
  local file = redis.call('HMGET', file_key(path), 'id', 'device', 'inode')
  redis.call('DEL', file_key(path))
  redis.call('ZREM', files, path)
  local key = (file[2] or '') .. ':' .. (file[3] or '')
  if redis.call('HGET', inodes, key) == path then redis.call('HDEL', inodes, key) end
  if file[1] then redis.call('SREM', paths_key(file[1]), path) end
  return file[1]
end

-- A photo that no file holds any more. Its vectors stay: whoever reads that content again finds them.
local function drop_unheld(id)
  if redis.call('EXISTS', paths_key(id)) == 0 and redis.call('SISMEMBER', intents, id) == 0 then
    redis.call('DEL', photo_key(id))
    redis.call('SREM', photos, id)
  end
end

-- The mends drop what leads nowhere, and return the paths that have to be looked at for it.
local mend = {}

function mend.path(path)
  if not wrong.path(path) then return {} end
  local id = drop_file(path)
  if id then drop_unheld(id) end
  return {path}
end

-- digest: one that is known not to be the photo's, or ''
function mend.photo(id, digest)
  local is_foreign = redis.call('HGET', photo_key(id), 'digest') == digest
  local unsound = is_foreign or not is_whole(photo_key(id), unpack(fields)) or redis.call('SISMEMBER', photos, id) == 0
  if not unsound and not wrong.photo(id) then return {} end
  local paths = redis.call('SMEMBERS', paths_key(id))
  for _, path in ipairs(paths) do
    if redis.call('HGET', file_key(path), 'id') ~= id then redis.call('SREM', paths_key(id), path)
    elseif unsound then drop_file(path) end
  end
  drop_unheld(id)
  return paths
end

function mend.inode(key)
  if wrong.inode(key) then redis.call('HDEL', inodes, key) end
  return {}
end

local change = {}

-- kind name digest
function change.mend(a) return mend[a[2]](a[3], a[4]) end

-- paths: have them read again, whatever their files' stat says
function change.distrust(a)
  for i = 2, #a do
    if redis.call('EXISTS', file_key(a[i])) == 1 then redis.call('HSET', file_key(a[i]), 'size', '-1') end
  end
  return {}
end

return fenced(ask, change)
