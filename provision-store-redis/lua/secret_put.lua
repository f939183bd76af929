-- Puts a sealed value if its key is absent; answers what is there then.

local refused = clock(true)
if refused then return refused end
local key, value = arg(), arg()
seal(key, value)
return call('HGET', SECRETS, key)
