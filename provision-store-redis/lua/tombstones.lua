-- What is left of runs that were removed. Nothing is written.

local refused = clock(false)
if refused then return refused end
local by, found = arg(), {}
if by == 'runs' then
  for _ = 1, tonumber(arg()) do found[#found + 1] = call('HGET', TOMBSTONES, arg()) or nil end
  return found
end
local key = arg()
if by == 'last' then
  -- The last one from that key on, and before another.
  key = call('ZREVRANGEBYLEX', TOMBSTONE_KEYS, '(' .. arg(), '[' .. key, 'LIMIT', 0, 1)[1]
end
local run = key and call('HGET', STARTS, key)
return { run and call('HGET', TOMBSTONES, run) or nil }
