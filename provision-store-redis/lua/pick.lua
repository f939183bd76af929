-- Which ready runs come next: higher priority first, tenants in turn, oldest first.
--
-- READY sorts by lane, priority, tenant, due time and run, with `.` between them, which sorts
-- before every character of theirs: every step is one seek, whatever else the namespace holds.

-- Tenants looked at in one pick, and delayed runs moved in one call, at most.
local TENANTS_MAX, PROMOTED_MAX = 256, 1000
-- Lanes that are looked up by their names, and names that are read in one command, at most.
local NAMED_MAX = 256

-- The first member of a sorted set between two bounds.
local function first(key, from, to)
  return call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, 1)[1]
end

-- Numbers of the lanes in which a run waits: a seek for each, whatever lanes there ever were.
local function occupied()
  local found, known = {}, {}
  for _, key in ipairs({ READY, LATER }) do
    local member = first(key, '-', '+')
    while member do
      local lane = string.sub(member, 1, 6)
      if not known[lane] then found[#found + 1] = lane end
      known[lane] = true
      member = first(key, '[' .. lane .. '/', '+')
    end
  end
  return found
end

-- Numbers of the lanes of each of these queues and sagas; nil when they are too many.
local function named(queues, code)
  local fields, found = {}, {}
  for queue in pairs(queues) do
    for saga in pairs(code) do fields[#fields + 1] = queue .. '\n' .. saga end
    if #fields > NAMED_MAX then return nil end
  end
  if #fields == 0 then return found end
  for _, number in ipairs(call('HMGET', LANES, unpack(fields))) do
    if number then found[#found + 1] = number end
  end
  return found
end

-- Those of the lanes that are of these queues and sagas; nil means all.
local function of_these(lanes, queues, code)
  local found = {}
  for from = 1, #lanes, NAMED_MAX do
    local slice = { unpack(lanes, from, math.min(#lanes, from + NAMED_MAX - 1)) }
    for n, lane in ipairs(call('HMGET', LANES, unpack(slice))) do
      local queue, saga = string.match(lane or '', '^([^\n]*)\n(.*)$')
      if queue and (not queues or queues[queue]) and (not code or code[saga]) then
        found[#found + 1] = slice[n]
      end
    end
  end
  return found
end

-- Numbers of the lanes of these queues and sagas in which a run may wait; nil means all.
local function lanes_of(queues, code)
  local found = queues and code and named(queues, code)
  if not found then
    found = occupied()
    if queues or code then found = of_these(found, queues, code) end
  end
  table.sort(found)
  return found
end

-- Reads a list of names from the arguments; nil when it is empty.
local function names()
  local count, set = tonumber(arg()), {}
  for _ = 1, count do set[arg()] = true end
  return count > 0 and set or nil
end

-- Those of the lanes whose queues are not among these.
local function without(lanes, queues)
  if not queues then return lanes end
  local left, out = {}, {}
  for _, lane in ipairs(of_these(lanes, queues, nil)) do out[lane] = true end
  for _, lane in ipairs(lanes) do
    if not out[lane] then left[#left + 1] = lane end
  end
  return left
end

-- Moves runs whose time has come from LATER to READY. Who waits knows when that is: nobody is told.
local function promote(lane)
  local told = stirred
  local from, to = '[' .. lane .. '.', '(' .. lane .. '.' .. sortable(text(NOW + 1))
  for _, member in ipairs(call('ZRANGEBYLEX', LATER, from, to, 'LIMIT', 0, PROMOTED_MAX)) do
    local run = string.sub(member, -36)
    local row = read_row(run)
    -- A member that is not where its row says is what damage has left.
    local traced = row and row[PLACE] == '1' and later_member(run, row) == member
    if not traced then call('ZREM', LATER, member) end
    if row and row[OWNER] == '' then
      unplace(run, row)
      place(run, row)
      write_row(run, row)
    end
  end
  stirred = told
end

-- The due time inside a member of READY or LATER.
local function due_of(member)
  return string.match(string.sub(member, -56, -38), '^0*(%d+)$')
end

-- Up to `wanted` tenants of a lane that have ready runs, from the one whose turn it is.
local function tenants(lane, priority, wanted, turns, queues)
  local base = lane .. '.' .. priority .. '.'
  local past = lane .. '.' .. priority .. '/'
  local start = call('HGET', TURNS, turns .. lane .. '.' .. priority) or ''
  local from, to, count = start, '(' .. past, 0
  local wrapped = start == ''
  while count < wanted do
    local member = first(READY, '[' .. base .. from, to)
    if member then
      local tenant = string.match(string.sub(member, #base + 1), '^([^.]*)')
      queues[#queues + 1] =
        { lane = lane, base = base, tenant = tenant, member = member, order = #queues }
      from = tenant .. '/'
      count = count + 1
    elseif wrapped then
      return
    else
      wrapped, from, to = true, '', '(' .. base .. start
    end
  end
end

-- The first tenant that was not served comes first next time; after all of them, the next.
local function remember(queues, priority, turns)
  local starts = {}
  for _, queue in ipairs(queues) do
    local known = starts[queue.lane]
    if not known or not known.final then
      local tenant = queue.served and queue.tenant .. '/' or queue.tenant
      starts[queue.lane] = { tenant = tenant, final = not queue.served }
    end
  end
  for lane, start in pairs(starts) do
    call('HSET', TURNS, turns .. lane .. '.' .. priority, start.tenant)
  end
end

-- Goes round the tenants of one priority, one run each, until the limit is reached.
local function serve(lanes, priority, limit, found, turns, room)
  local queues, wanted = {}, math.min(limit - #found, TENANTS_MAX)
  for _, lane in ipairs(lanes) do tenants(lane, priority, wanted, turns, queues) end
  local visited = {}
  for n, queue in ipairs(queues) do visited[n] = queue end
  table.sort(queues, function(a, b)
    local x, y = tonumber(due_of(a.member)), tonumber(due_of(b.member))
    if x == y then return a.order < b.order end
    return x < y
  end)
  local left = #queues
  while left > 0 and #found < limit do
    left = 0
    for _, queue in ipairs(queues) do
      if queue.member and room and not room.take(queue.lane) then queue.member = nil end
      if queue.member and #found < limit then
        found[#found + 1] = queue.member
        queue.served = true
        queue.member = first(READY, '(' .. queue.member, '(' .. queue.base .. queue.tenant .. '/')
        left = left + 1
      end
    end
  end
  remember(visited, priority, turns)
end

-- Up to `limit` members of READY; `turns` names the memory of where the tenants go on. Lanes without
-- `room` are passed over.
local function pick(lanes, limit, turns, room)
  local found, below = {}, ''
  while #found < limit do
    local top, tops = nil, {}
    for _, lane in ipairs(lanes) do
      local is_open = not room or room.is_open(lane)
      local from = below == '' and '[' .. lane .. '.' or '[' .. lane .. '.' .. below .. '/'
      local member = is_open and first(READY, from, '(' .. lane .. '/')
      local priority = member and string.sub(member, 8, 17)
      -- Priorities are digits of one width, the higher ones being the smaller numbers.
      if priority and (not top or tonumber(priority) < tonumber(top)) then top, tops = priority, {} end
      if priority and priority == top then tops[#tops + 1] = lane end
    end
    if not top then break end
    serve(tops, top, limit, found, turns, room)
    below = top
  end
  return found
end

-- The earliest due time in these lanes, or empty.
local function next_due(lanes)
  local earliest
  for _, lane in ipairs(lanes) do
    for _, key in ipairs({ READY, LATER }) do
      local member = first(key, '[' .. lane .. '.', '(' .. lane .. '/')
      local due = member and due_of(member)
      if due and (not earliest or tonumber(due) < tonumber(earliest)) then earliest = due end
    end
  end
  return earliest or ''
end
