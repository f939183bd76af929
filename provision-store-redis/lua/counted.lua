-- What is counted against the caps of queues: every lease, whoever took it and under whatever caps,
-- since those who come later may have others.
--
-- CAPPED holds `queue owner run epoch` of each. Who gives a lease back does not touch it: a member
-- counts as long as its row says that it is held, and what does not count any more is removed by
-- those who come across it.

-- Members that CAPPED may hold beyond twice the leases before some are looked at, and how many are.
local IDLE_MAX, LOOKED_AT = 64, 4

-- The queue of a lane, as hexadecimal digits: of one alphabet, whatever it is named.
local function queue_of(lane)
  local queue = string.match(call('HGET', LANES, lane) or '', '^([^\n]*)\n') or ''
  return string.gsub(queue, '.', function(c) return string.format('%02x', string.byte(c)) end)
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

-- Counts a lease that was just taken. Half of what is looked at goes, as a rule: more than is added.
local function count_lease(run, row)
  local queue = queue_of(string.sub(row[SPOT], 1, 6))
  call('ZADD', CAPPED, 0, queue .. ' ' .. held_member(run, row))
  if call('ZCARD', CAPPED) > 2 * call('ZCARD', HELD) + IDLE_MAX then
    for _, member in ipairs(call('ZRANDMEMBER', CAPPED, LOOKED_AT)) do is_leased(member) end
  end
end
