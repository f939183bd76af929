-- Reads a sealed value. Nothing is written.

local refused = clock(false)
if refused then return refused end
return call('HGET', SECRETS, arg())
