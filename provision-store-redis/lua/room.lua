-- How much room is left in queues that have a cap.
--
-- CAPPED holds, for each run that was leased from such a queue, `queue lane owner run epoch`. Who
-- gives a lease back does not touch it: a member counts as long as its row says that it is held,
-- and what does not count any more is removed by the next look. So there are never more members
-- than the cap, and queues without a cap cost nothing.

-- Characters of `.owner.run.epoch` up to the epoch.
local OWNER_FROM, RUN_FROM, EPOCH_FROM = 1, 38, 75

-- The queue of a lane, as hexadecimal digits: of one alphabet, whatever it is named.
local function queue_of(lane)
  local queue = string.match(call('HGET', LANES, lane) or '', '^([^\n]*)\n') or ''
  return string.gsub(queue, '.', function(c) return string.format('%02x', string.byte(c)) end)
end

-- Runs of a queue that are under lease.
local function count_held(queue)
  local count, from = 0, #queue + 2
  for _, member in ipairs(call('ZRANGEBYLEX', CAPPED, '[' .. queue .. ' ', '(' .. queue .. '!')) do
    local held = string.sub(member, from)
    local owner = string.sub(held, OWNER_FROM, OWNER_FROM + 35)
    local row = read_row(string.sub(held, RUN_FROM, RUN_FROM + 35))
    if row and row[OWNER] == owner and row[EPOCH] == string.sub(held, EPOCH_FROM) then
      count = count + 1
    else
      call('ZREM', CAPPED, member)
    end
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
  function room.enter(lane, run, row)
    if look(lane) then
      call('ZADD', CAPPED, 0, queues[lane] .. ' ' .. row[OWNER] .. ' ' .. run .. ' ' .. row[EPOCH])
    end
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
