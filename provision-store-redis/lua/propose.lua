-- Due runs, left where they are, and how long until there may be more.
--
-- L2: what a dead worker holds is due when its lease is over: whoever leases buries it then.

local refused = clock(true)
if refused then return refused end
-- Of a dead worker's runs, so many more than are wanted are looked at.
local PASSED_MAX = 100
local limit = tonumber(arg())
local queues, except = names(), names()
local lanes = without(lanes_of(queues, nil), except)
for _, lane in ipairs(lanes) do promote(lane) end
local found = pick(lanes, limit, 'proposed ')
for n, member in ipairs(found) do found[n] = string.sub(member, -36) end
for _, who in ipairs(call('ZRANGEBYSCORE', ALIVE, '-inf', MOMENT)) do
  local from, to = '[' .. who .. ' ', '(' .. who .. '!'
  for _, member in ipairs(call('ZRANGEBYLEX', HELD, from, to, 'LIMIT', 0, limit + PASSED_MAX)) do
    local run = string.sub(member, 38, 73)
    local row = #found < limit and read_row(run)
    local lane = row and { string.sub(row[SPOT], 1, 6) }
    if lane and without(of_these(lane, queues, nil), except)[1] then found[#found + 1] = run end
  end
end
local due = next_due(lanes)
local over = call('ZRANGEBYSCORE', ALIVE, '(' .. MOMENT, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
if over and (due == '' or tonumber(over) < tonumber(due)) then due = text(tonumber(over)) end
return { found, due == '' and '' or text(math.max(0, tonumber(due) - NOW)) }
