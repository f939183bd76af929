-- Erases a sealed value; an absent one is erased already.

local refused = clock(true)
if refused then return refused end
local key = arg()
call('HDEL', SECRETS, key)
call('ZREM', SECRET_ORDER, key)
return 1
