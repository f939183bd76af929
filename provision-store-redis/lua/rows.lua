-- The mutable row of a run: text fields, each ended by a line feed, which none of them contains.
--
-- Numbers stay text wherever nothing is computed, because moments may exceed 2^53.

local STATUS, DUE, SEQ, EPOCH, OWNER, NONCE, ASKED, CONSUMED, OPEN, DEATHS =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- When the last owner's lease ended by death; whether another run woke this one while it was
-- leased; 0 nowhere, 1 in LATER, 2 in READY; lane, priority and tenant as they sort in READY.
local DIED, POKED, PLACE, SPOT = 11, 12, 13, 14
-- The business key, and the one its end has freed, as JSON; whether it is a dead letter; the start
-- key as JSON.
local GUARD, FREED, UPDATED, LETTER, KEY, POLLS, SUMMARY = 15, 16, 17, 18, 19, 20, 21
-- S3: what is computed with is a number, or the row is damaged: an error in the middle of a script
-- would leave what it has written before to nobody.
local TEXT, OWNED_BY = '([^\n]*)\n', '(%d+)\n([^\n]*)\n(%d+)\n'
local FIELDS = '^' .. TEXT .. '(%d+)\n(%d+)\n' .. OWNED_BY .. '(%d+)\n(%d+)\n([01])\n(%d+)\n'
  .. '(%d*)\n([01])\n([012])\n(' .. PLACED .. ')\n' .. TEXT .. TEXT .. '(%d+)\n([01])\n'
  .. TEXT .. TEXT .. TEXT .. '$'

local WAKEABLE = { Running = true, Waiting = true, Unwinding = true }
local stirred = false

-- The row of a run; nil where there is none, or one that is damaged: who comes across it goes on
-- without it, and who asks for that very run is told.
local function read_row(run)
  local stored = row_text(run)
  if not stored then return nil end
  -- One match for all fields: a fraction of what a loop over them costs.
  local row = { string.match(stored, FIELDS) }
  return row[SUMMARY] and row
end

local function write_row(run, row)
  put_text(run, table.concat(row, '\n') .. '\n')
end

-- The business key inside its JSON; nil where it cannot be read.
local function guard_key(json)
  local whole, guard = pcall(cjson.decode, json)
  return whole and type(guard) == 'table' and type(guard.key) == 'string' and guard.key or nil
end

-- A moment so that text sorts like time.
local function sortable(due)
  return string.rep('0', 19 - #due) .. due
end

local function later_member(run, row)
  return string.sub(row[SPOT], 1, 6) .. '.' .. sortable(row[DUE]) .. '.' .. run
end

local function ready_member(run, row)
  return row[SPOT] .. '.' .. sortable(row[DUE]) .. '.' .. run
end

local function held_member(run, row)
  return row[OWNER] .. ' ' .. run .. ' ' .. row[EPOCH]
end

-- Takes a run out of where it waits.
local function unplace(run, row)
  if row[PLACE] == '1' then
    call('ZREM', LATER, later_member(run, row))
  elseif row[PLACE] == '2' then
    call('ZREM', READY, ready_member(run, row))
  end
  row[PLACE] = '0'
end

-- Puts a run that nobody holds where its due time says.
local function place(run, row)
  if row[DUE] == NEVER then
    row[PLACE] = '0'
  elseif tonumber(row[DUE]) <= NOW then
    row[PLACE] = '2'
    call('ZADD', READY, 0, ready_member(run, row))
    stirred = true
  else
    row[PLACE] = '1'
    local member = later_member(run, row)
    call('ZADD', LATER, 0, member)
    -- Who waits knows when the first of each lane comes due, and looks for the next one then.
    local lane = string.sub(member, 1, 7)
    if call('ZRANGEBYLEX', LATER, '[' .. lane, '[' .. member, 'LIMIT', 0, 1)[1] == member then
      stirred = true
    end
  end
end

-- Makes a run that nobody holds due at `due`.
local function set_due(run, row, due)
  unplace(run, row)
  row[DUE] = due
  row[UPDATED] = MOMENT
  place(run, row)
end

-- Ends a lease; the row's due time is set already.
local function let_go(run, row)
  if kept then put(gone, HELD, held_member(run, row)) else call('ZREM', HELD, held_member(run, row)) end
  row[OWNER] = ''
  row[NONCE] = '0'
  row[UPDATED] = MOMENT
  place(run, row)
end

-- Gives a leased run back. A request or a wake that came meanwhile makes it due at once.
local function release(run, row, due, seen, polls)
  local asked = tonumber(row[ASKED]) > math.max(tonumber(row[CONSUMED]), tonumber(seen))
  local woken = row[POKED] == '1' and WAKEABLE[row[STATUS]]
  row[DUE] = (asked or woken) and MOMENT or due
  row[POLLS] = polls
  row[POKED] = '0'
  let_go(run, row)
end

-- S5: owner, epoch and nonce, all three.
local function is_held(row, owner, epoch, nonce)
  return row[OWNER] == owner and row[EPOCH] == epoch and row[NONCE] == nonce
end

-- An error as an answer beside others: its code, and what else there is to say.
local function failed(problem)
  local words = type(problem) == 'table' and problem.err or 'ERR ' .. tostring(problem)
  local code, rest = string.match(words, '^%-?(%S+) ?(.*)$')
  return { 'failed', code or 'ERR', rest or '' }
end

-- Wakes a run that waits for another one.
local function poke(run)
  local row = read_row(run)
  if not row then return end
  if row[OWNER] ~= '' then
    row[POKED] = '1'
  elseif WAKEABLE[row[STATUS]] then
    set_due(run, row, MOMENT)
  else
    return
  end
  write_row(run, row)
end

-- Tells those who wait for work. A server that forbids it costs no more than their next poll.
local function tell()
  if stirred then redis.pcall('PUBLISH', META, '') end
end
