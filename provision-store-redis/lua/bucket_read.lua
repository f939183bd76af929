-- The state of a bucket, the clock, and which of the incarnations named are marked dead. Nothing is
-- written.
--
-- Keys: buckets, dead, meta.

local time = redis.call('TIME')
local skew = tonumber(redis.call('HGET', KEYS[3], 'skew') or '0')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
local state = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local dead = {}
if state ~= '' then
  for who in pairs(cjson.decode(state).slots or {}) do
    if redis.call('ZSCORE', KEYS[2], who) then dead[#dead + 1] = who end
  end
end
return { state, string.format('%.0f', now), dead }
