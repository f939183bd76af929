-- What is left of runs that were removed. Nothing is written.

-- Tombstones that one command reads.
local SLICE = 500

local refused = clock(false)
if refused then return refused end
local by, found = arg(), {}
if by == 'runs' then
  for _ = 1, tonumber(arg()) do found[#found + 1] = call('HGET', TOMBSTONES, arg()) or nil end
  return found
end
local wanted = arg()
if by == 'key' then
  local run = call('HGET', STARTS, wanted)
  return { run and call('HGET', TOMBSTONES, run) or nil }
end
-- The one that ended last of those whose keys begin like this.
local count = call('ZCARD', TOMBSTONE_ENDS)
for last = count - 1, 0, -SLICE do
  local runs = call('ZRANGE', TOMBSTONE_ENDS, math.max(0, last - SLICE + 1), last)
  for n = #runs, 1, -1 do
    local left = call('HGET', TOMBSTONES, runs[n])
    local key = left and cjson.decode(left).key
    if type(key) == 'string' and string.sub(key, 1, #wanted) == wanted then return { left } end
  end
end
return {}
