-- Replaces the state of a bucket if it still is the old one; an empty one is not kept. Otherwise
-- answers like a read, so that the next try needs none.
--
-- Keys: buckets, dead, meta. Arguments: bucket, old state, new state.

local call = redis.call
if redis.replicate_commands then redis.replicate_commands() end
local state = call('HGET', KEYS[1], ARGV[1]) or ''
if state == ARGV[2] then
  if ARGV[3] == '' then call('HDEL', KEYS[1], ARGV[1]) else call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
  return {}
end
local time = call('TIME')
local skew = tonumber(call('HGET', KEYS[3], 'skew') or '0')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
local dead = {}
if state ~= '' then
  for who in pairs(cjson.decode(state).slots or {}) do
    if call('ZSCORE', KEYS[2], who) then dead[#dead + 1] = who end
  end
end
return { state, string.format('%.0f', now), dead }
