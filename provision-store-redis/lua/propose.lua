-- Due runs, left where they are, and how long until the next one.

local refused = clock(true)
if refused then return refused end
local limit = tonumber(arg())
local lanes = without(lanes_of(names(), nil), names())
for _, lane in ipairs(lanes) do promote(lane) end
local found = pick(lanes, limit, 'proposed ')
for n, member in ipairs(found) do found[n] = string.sub(member, -36) end
local due = next_due(lanes)
return { found, due == '' and '' or text(math.max(0, tonumber(due) - NOW)) }
