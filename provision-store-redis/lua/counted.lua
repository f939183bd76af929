-- What is counted against the caps of queues: every lease, whoever took it and under whatever caps,
-- since those who come later may have others.
--
-- CAPPED holds `queue owner run epoch` of each. Who gives a lease back does not touch it: a member
-- counts as long as its row says that it is held, and what does not count any more is removed by
-- those who come across it.

-- Members that CAPPED may hold beyond twice the leases before some are looked at, and how many are
-- for each lease that is taken: half of them go, as a rule, which is more than is added.
local IDLE_MAX, LOOKED_AT = 64, 4

local counted = 0

local queues_of = {}

-- The queue of a lane, as hexadecimal digits: of one alphabet, whatever it is named.
local function queue_of(lane)
  if not queues_of[lane] then
    local queue = string.match(call('HGET', LANES, lane) or '', '^([^\n]*)\n') or ''
    queues_of[lane] =
      string.gsub(queue, '.', function(c) return string.format('%02x', string.byte(c)) end)
  end
  return queues_of[lane]
end

-- Whether a member of CAPPED is of a lease that is held; one that is not is removed.
local function is_leased(member)
  local held = string.sub(member, (string.find(member, ' ', 1, true) or 0) + 1)
  local run = string.sub(held, 38, 73)
  local row = read_row(run)
  if row and row[OWNER] ~= '' and held_member(run, row) == held then return true end
  call('ZREM', CAPPED, member)
  return false
end

-- Counts a lease that was just taken.
local function count_lease(run, row)
  local member = queue_of(string.sub(row[SPOT], 1, 6)) .. ' ' .. held_member(run, row)
  if kept then put(sets, CAPPED, 0, member) else call('ZADD', CAPPED, 0, member) end
  counted = counted + 1
end

-- Looks at so many members, and removes those that count no more.
local function look_at(count)
  local looked, held, runs = call('ZRANDMEMBER', CAPPED, count), {}, {}
  for n, member in ipairs(looked) do
    held[n], runs[n] = string.match(member, ' (%S+ (%S*) %d+)$')
    runs[n] = runs[n] or ''
  end
  if #looked == 0 then return end
  local idle, rows = {}, call('HMGET', ROWS, unpack(runs))
  for n, member in ipairs(looked) do
    -- The lease alone: what else there is of a row need not be whole.
    local epoch, owner = string.match(rows[n] or '', '^[^\n]*\n%d+\n%d+\n(%d+)\n([^\n]+)\n')
    if not epoch or held[n] ~= owner .. ' ' .. runs[n] .. ' ' .. epoch then
      idle[#idle + 1] = member
    end
  end
  if #idle > 0 then call('ZREM', CAPPED, unpack(idle)) end
end

-- After the leases of a script were counted and written: looks at some members for each of them, in
-- slices, since a call takes only so many arguments.
local function sweep_counted()
  if counted == 0 or call('ZCARD', CAPPED) <= 2 * call('ZCARD', HELD) + IDLE_MAX then return end
  for left = LOOKED_AT * counted, 1, -500 do look_at(math.min(left, 500)) end
end
