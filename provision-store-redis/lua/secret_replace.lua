-- Replaces a sealed value if it still is the old one.

local refused = clock(true)
if refused then return refused end
local key, old, new = arg(), arg(), arg()
local held = call('HGET', SECRETS, key)
if held ~= old then return 0 end
call('HSET', SECRETS, key, new)
return 1
