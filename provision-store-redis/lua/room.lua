-- How much room is left in queues that have a cap: as many places as the cap, less the leases that
-- CAPPED names and that are held still.

-- Runs of a queue that are under lease.
local function count_held(queue)
  local count = 0
  for _, member in ipairs(call('ZRANGEBYLEX', CAPPED, '[' .. queue .. ' ', '(' .. queue .. '!')) do
    if is_leased(member) then count = count + 1 end
  end
  return count
end

-- The room in lanes; `caps` tells the cap of a queue by its name as JSON.
local function room_of(caps)
  local queues, left, full = {}, {}, {}
  local room = { full = full }
  local function look(lane)
    if queues[lane] == nil then
      local name = string.match(call('HGET', LANES, lane) or '', '^([^\n]*)\n')
      local cap = name and caps(name)
      queues[lane] = cap and queue_of(lane) or false
      if cap and left[queues[lane]] == nil then
        left[queues[lane]] = { room = cap - count_held(queues[lane]), name = name }
      end
    end
    return queues[lane] and left[queues[lane]]
  end
  function room.is_open(lane)
    local known = look(lane)
    return not known or known.room > 0
  end
  function room.take(lane)
    local known = look(lane)
    if not known then return true end
    known.room = known.room - 1
    return known.room >= 0
  end
  function room.names()
    local names = {}
    for _, known in pairs(left) do
      if known.room <= 0 then names[#names + 1] = known.name end
    end
    table.sort(names)
    return names
  end
  return room
end

-- Reads the caps from the arguments; nil when there are none. A prefix is of the name as JSON,
-- without its closing quote.
local function caps()
  local count, named, each = tonumber(arg()), {}, {}
  for _ = 1, count do
    local kind, name, most = arg(), arg(), tonumber(arg())
    if kind == 'named' then
      named[name] = math.min(named[name] or most, most)
    else
      each[#each + 1] = { name = name, most = most }
    end
  end
  if count == 0 then return nil end
  return function(queue)
    local cap = named[queue]
    for _, one in ipairs(each) do
      if string.sub(queue, 1, #one.name) == one.name then cap = math.min(cap or one.most, one.most) end
    end
    return cap
  end
end
