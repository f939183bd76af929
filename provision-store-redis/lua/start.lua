-- The start of a run: as a submission of its own, or with an append of another run.

-- What is known of a run, without its journal.
local function head_of(run)
  local row = call('HGET', ROWS, run)
  return { run, call('HGET', FIXED, run), call('HGET', INPUTS, run), row }
end

-- Numbers of lanes are six digits wide, and lanes are never removed.
local LANES_MAX = 999999

-- Looks, before anything is written, whether there are numbers for all lanes that may be new: not
-- more than there are arguments.
local function lanes_left()
  if call('HLEN', LANES) / 2 + #ARGV <= LANES_MAX then return nil end
  return redis.error_reply('PROVISIONLANES ' .. LANES_MAX .. ' queues and versions of sagas are known')
end

-- The number of a lane, made when it is new. LANES tells numbers by names, and names by numbers.
local function lane_number(lane)
  local number = call('HGET', LANES, lane)
  if not number then
    number = string.format('%06d', call('HLEN', LANES) / 2 + 1)
    call('HSET', LANES, lane, number, number, lane)
  end
  return number
end

-- The epoch of a run that is born leased; nil when nobody takes it, or who would is dead.
local function born_to(owner, ttl)
  if owner == '' or call('ZSCORE', DEAD, owner) then return nil end
  local known, ends = call('ZSCORE', ALIVE, owner), after(ttl)
  if not known or tonumber(known) < tonumber(ends) then call('ZADD', ALIVE, ends, owner) end
  return '1'
end

-- Reads the arguments of one start and stores the run, unless it is known or held back.
local function start()
  local run, has_key, key, key_json = arg(), arg(), arg(), arg()
  local guard, guard_key, parent = arg(), arg(), arg()
  local fixed, input, lane, spot = arg(), arg(), arg(), arg()
  local status, due, asked, consumed, open, deaths = arg(), arg(), arg(), arg(), arg(), arg()
  local updated, letter, polls, summary = arg(), arg(), arg(), arg()
  local owner, ttl, nonce, first, first_summary = arg(), arg(), arg(), arg(), arg()
  -- S2: a submission that is repeated because its answer was lost finds its own run by id.
  local known = has_key == '1' and call('HGET', STARTS, key) or run
  if call('HEXISTS', ROWS, known) == 1 then return { 'known', head_of(known) } end
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
  call('HSET', FIXED, run, fixed)
  call('HSET', INPUTS, run, input)
  call('ZADD', RUNS, 0, run)
  local row = {
    status, due, '0', '0', '', '0', asked, consumed, open, deaths, '', '0', '0',
    lane_number(lane) .. '.' .. spot, guard, '', updated, letter, key_json, polls, summary,
  }
  local epoch = born_to(owner, ttl)
  if epoch then
    row[EPOCH], row[OWNER], row[NONCE], row[UPDATED] = epoch, owner, nonce, text(NOW)
    call('ZADD', HELD, 0, held_member(run, row))
    count_lease(run, row)
    if first ~= '' then
      call('HSET', FRAMES, run .. '.1', first)
      row[SEQ], row[OPEN], row[SUMMARY] = '1', '1', first_summary
    end
  else
    place(run, row)
  end
  write_row(run, row)
  if epoch then return { 'leased', head_of(run) } end
  return { 'created' }
end
