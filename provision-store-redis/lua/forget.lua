-- Forgets runs that were removed, those that ended first; their start keys are free then.

local refused = clock(true)
if refused then return refused end
local before, limit = arg(), tonumber(arg())
local old = call('ZRANGEBYSCORE', TOMBSTONE_ENDS, '-inf', '(' .. before, 'LIMIT', 0, limit)
for _, run in ipairs(old) do
  local left = call('HGET', TOMBSTONES, run)
  local whole, tombstone = pcall(cjson.decode, left)
  local key = whole and type(tombstone) == 'table' and tombstone.key
  if type(key) == 'string' then
    if call('HGET', STARTS, key) == run then call('HDEL', STARTS, key) end
    call('ZREM', TOMBSTONE_KEYS, key)
  end
  call('HDEL', TOMBSTONES, run)
  call('ZREM', TOMBSTONE_ENDS, run)
end
return #old
