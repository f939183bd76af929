-- Replaces the state of a bucket if it still is the old one; an empty one is not kept. Otherwise
-- answers like a read, so that the next try needs none.
--
-- Arguments: bucket, old state, new state.

local state = call('HGET', KEYS[1], ARGV[1]) or ''
if state ~= ARGV[2] then return found(state) end
if ARGV[3] == '' then call('HDEL', KEYS[1], ARGV[1]) else call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return {}
