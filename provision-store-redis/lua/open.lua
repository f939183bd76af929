-- Opens a namespace: makes it when it is new, and refuses one of another format.
--
-- Keys: meta, and a scratch key. Every kind of command that scripts use is tried on the scratch key
-- first, which is gone afterwards: a user that may not do one is told before anything is kept.

local META, PROBE = KEYS[1], KEYS[2]
-- The one it begins with; a store's has another since a run was removed.
local FORMAT = ARGV[1]
local WITH_TOMBSTONES = FORMAT == '1' and '2' or FORMAT
local TRIED = {
  -- What takes away comes first: else what is put could not be taken away again.
  { 'HDEL', PROBE, 'a' }, { 'ZREM', PROBE, 'a' },
  { 'TIME' }, { 'HGET', META, 'format' }, { 'HSET', PROBE, 'a', '1' }, { 'HSETNX', PROBE, 'a', '1' },
  { 'HMGET', PROBE, 'a' }, { 'HGETALL', PROBE }, { 'HLEN', PROBE }, { 'HEXISTS', PROBE, 'a' },
  { 'HDEL', PROBE, 'a' },
  { 'ZADD', PROBE, 0, 'a' }, { 'ZSCORE', PROBE, 'a' }, { 'ZCARD', PROBE }, { 'ZRANGE', PROBE, 0, 0 },
  { 'ZLEXCOUNT', PROBE, '-', '+' }, { 'ZRANGEBYLEX', PROBE, '-', '+' },
  { 'ZREVRANGEBYLEX', PROBE, '+', '-' }, { 'ZRANGEBYSCORE', PROBE, '-inf', '+inf' },
  { 'ZRANDMEMBER', PROBE, 1 },
  { 'ZREM', PROBE, 'a' },
}

for _, command in ipairs(TRIED) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    -- What was put on the scratch key is taken away by whichever of the two is allowed.
    redis.pcall('HDEL', PROBE, 'a')
    redis.pcall('ZREM', PROBE, 'a')
    local denied = string.find(answer.err, 'permission') or string.find(answer.err, "can't run")
    if not denied then return answer end
    return redis.error_reply('PROVISIONDENIED ' .. command[1])
  end
end
local format = redis.call('HGET', META, 'format')
if not format then
  redis.call('HSET', META, 'format', FORMAT)
elseif format ~= FORMAT and format ~= WITH_TOMBSTONES then
  return redis.error_reply('PROVISIONFORMAT ' .. format)
end
return 1
