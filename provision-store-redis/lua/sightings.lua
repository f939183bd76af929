-- The sightings of a run, or of all. Nothing is written.

local refused = clock(false)
if refused then return refused end
local run = arg()
local from, to = '-', '+'
if run ~= '' then from, to = '[' .. run .. ' ', '(' .. run .. '!' end
local found = call('ZRANGEBYLEX', SIGHTS, from, to)
for n, member in ipairs(found) do found[n] = string.match(member, '\n(.*)$') end
return found
