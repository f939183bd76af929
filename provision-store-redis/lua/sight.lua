-- Adds a sighting; a repeated one changes nothing. The identity begins with the run.

local refused = clock(true)
if refused then return refused end
local identity, json = arg(), arg()
local prefix = '[' .. identity .. '\n'
if #call('ZRANGEBYLEX', SIGHTS, prefix, prefix .. '\255', 'LIMIT', 0, 1) > 0 then return 0 end
call('ZADD', SIGHTS, 0, identity .. '\n' .. json)
return 1
