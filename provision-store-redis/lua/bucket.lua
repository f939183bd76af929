-- Part of the limiter's scripts.
--
-- Keys: buckets, dead, meta, alive.

local call = redis.call

-- A bucket's state, the clock, and which of those who hold its slots are marked dead, or alive. A
-- state that cannot be read is worth as much as a lost one: nobody holds anything.
local function found(state)
  local time, meta = call('TIME'), call('HMGET', KEYS[3], 'last', 'skew')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  -- S20: the clock of the runs, which does not go behind their last write.
  now = math.max(now + tonumber(meta[2] or '0'), tonumber(meta[1] or '0'))
  local dead, alive = {}, {}
  local whole, bucket = pcall(cjson.decode, state)
  if whole and type(bucket) == 'table' and type(bucket.slots) == 'table' then
    for who in pairs(bucket.slots) do
      who = tostring(who)
      if call('ZSCORE', KEYS[2], who) then
        dead[#dead + 1] = who
      elseif call('ZSCORE', KEYS[4], who) then
        alive[#alive + 1] = who
      end
    end
  end
  return { state, string.format('%.0f', now), dead, alive }
end
