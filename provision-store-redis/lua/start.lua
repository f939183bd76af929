-- The start of a run: as a submission of its own, or with an append of another run.

-- What is known of a run, without its journal. It may be one of this call, and not written yet.
local function head_of(run)
  write_kept()
  return { run, call('HGET', FIXED, run), call('HGET', INPUTS, run), row_text(run) }
end

-- The arguments of one start.
local STARTED_ARGS = 26
-- Numbers of lanes are six digits wide, and lanes are never removed.
local LANES_MAX = 999999

-- Looks, before anything is written, whether there are numbers for all lanes that may be new: not
-- more than there are arguments.
local function lanes_left()
  if call('HLEN', LANES) / 2 + #ARGV <= LANES_MAX then return nil end
  return redis.error_reply('PROVISIONLANES ' .. LANES_MAX .. ' queues and versions of sagas are known')
end

local numbers = {}

-- The number of a lane, made when it is new. LANES tells numbers by names, and names by numbers.
local function lane_number(lane)
  local number = numbers[lane] or call('HGET', LANES, lane)
  if not number then
    number = string.format('%06d', call('HLEN', LANES) / 2 + 1)
    call('HSET', LANES, lane, number, number, lane)
  end
  numbers[lane] = number
  return number
end

-- Owners that were looked at, and until when they were found or made to live.
local living = {}

-- The epoch of a run that is born leased; nil when nobody takes it, or who would is dead.
local function born_to(owner, ttl)
  if owner == '' then return nil end
  local ends = after(ttl)
  if living[owner] == nil then
    living[owner] = not call('ZSCORE', DEAD, owner) and (call('ZSCORE', ALIVE, owner) or '0')
  end
  if not living[owner] then return nil end
  if tonumber(living[owner]) < tonumber(ends) then
    call('ZADD', ALIVE, ends, owner)
    living[owner] = ends
  end
  return '1'
end

-- Reads the arguments of one start and stores the run, unless it is known or held back. Rows are
-- kept: see `keep_rows`.
local function start()
  local run, has_key, key, key_json = arg(), arg(), arg(), arg()
  local guard, guard_key, parent = arg(), arg(), arg()
  local fixed, input, lane, spot = arg(), arg(), arg(), arg()
  local status, due, asked, consumed, open, deaths = arg(), arg(), arg(), arg(), arg(), arg()
  local updated, letter, polls, summary = arg(), arg(), arg(), arg()
  local owner, ttl, nonce, first, first_summary = arg(), arg(), arg(), arg(), arg()
  -- S2: a submission that is repeated because its answer was lost finds its own run by id.
  local known = has_key == '1' and call('HGET', STARTS, key) or run
  if row_text(known) then return { 'known', head_of(known) } end
  local left = call('HGET', TOMBSTONES, known)
  if left then return { 'pruned', left } end
  if guard ~= '' then
    local holder = call('HGET', GUARDS, guard_key)
    if holder then return { 'guarded', head_of(holder) } end
    call('HSET', GUARDS, guard_key, run)
  end
  if has_key == '1' then call('HSET', STARTS, key, run) end
  if parent ~= '' then call('ZADD', CHILDREN, 0, parent .. ' ' .. run) end
  if letter == '1' then call('ZADD', LETTERS, 0, run) end
  put(hashes, FIXED, run, fixed)
  put(hashes, INPUTS, run, input)
  put(sets, RUNS, 0, run)
  local row = {
    status, due, '0', '0', '', '0', asked, consumed, open, deaths, '', '0', '0',
    lane_number(lane) .. '.' .. spot, guard, '', updated, letter, key_json, polls, summary,
  }
  local epoch = born_to(owner, ttl)
  if epoch then
    row[EPOCH], row[OWNER], row[NONCE], row[UPDATED] = epoch, owner, nonce, MOMENT
    put(sets, HELD, 0, held_member(run, row))
    count_lease(run, row)
    if first ~= '' then
      put(hashes, FRAMES, run .. '.1', first)
      row[SEQ], row[OPEN], row[SUMMARY] = '1', '1', first_summary
    end
  else
    place(run, row)
  end
  write_row(run, row)
  if epoch then return { 'leased', { run, fixed, input, row_text(run) } } end
  return { 'created' }
end
