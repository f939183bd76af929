-- Counts of the queue. Nothing is written.

local refused = clock(false)
if refused then return refused end
local ready, expired, oldest = call('ZCARD', READY), 0, NOW
local delayed = call('ZCARD', LATER)

local function older(member)
  local due = member and tonumber(due_of(member))
  if due and due < oldest then oldest = due end
end

for _, lane in ipairs(lanes_of(nil, nil)) do
  local from, to = '[' .. lane .. '.', '(' .. lane .. '.' .. sortable(text(NOW + 1))
  local come = call('ZLEXCOUNT', LATER, from, to)
  ready, delayed = ready + come, delayed - come
  older(first(LATER, from, to))
  -- The first run of each tenant is its oldest.
  local member = first(READY, from, '(' .. lane .. '/')
  while member do
    older(member)
    member = first(READY, '[' .. string.match(member, '^[^.]*%.[^.]*%.[^.]*') .. '/', '(' .. lane .. '/')
  end
end
for _, who in ipairs(call('ZRANGEBYSCORE', ALIVE, '-inf', MOMENT)) do
  expired = expired + call('ZLEXCOUNT', HELD, '[' .. who .. ' ', '(' .. who .. '!')
end
return { text(ready), text(delayed), text(call('ZCARD', HELD)), text(expired), text(NOW - oldest) }
