-- Appends: fenced writes of runs, each with everything that hangs on it, all or nothing.

-- Reads all that one append brings; nothing is written yet.
local function read_append(run, is_plain)
  local n = taken
  local a = {
    run = run, before = ARGV[n + 1], seq = ARGV[n + 2], fence = ARGV[n + 3], frame = ARGV[n + 4],
    status = ARGV[n + 5], summary = ARGV[n + 6], open = ARGV[n + 7], settled = ARGV[n + 8] == '1',
    consumed = ARGV[n + 9], letter = ARGV[n + 10], ledger = {}, sealed = {}, wakes = {}, starts = 0,
  }
  taken = n + PLAIN_ARGS
  if is_plain then return a end
  a.free_guard, a.release, a.due, a.seen, a.polls = arg() == '1', arg() == '1', arg(), arg(), arg()
  for i = 1, tonumber(arg()) do a.ledger[i] = { arg(), arg(), arg(), arg(), arg() } end
  for i = 1, tonumber(arg()) do a.sealed[i] = { arg(), arg() } end
  for i = 1, tonumber(arg()) do a.wakes[i] = arg() end
  a.starts = tonumber(arg())
  return a
end

local function is_fenced(a, row)
  return a.fence == row[EPOCH] .. '\n' .. row[OWNER] .. '\n' .. row[NONCE]
end

-- S19: an earlier try of this very append is success; anything else is a lost lease.
local function repeated(a, row)
  -- It may be one of this call.
  write_kept()
  local stored = call('HGET', FRAMES, a.run .. '.' .. a.seq)
  if not stored then return { 'stale' } end
  local epoch, body = string.match(stored, '^(%d+) %d+ (.*)$')
  local own_epoch, own_body = string.match(a.frame, '^(%d+) %d+ (.*)$')
  if epoch ~= own_epoch or body ~= own_body then return { 'stale' } end
  return { 'applied', row[ASKED], is_fenced(a, row) and '0' or '1' }
end

-- Compares fence, sequence and ledger; nil means that the append may be written.
local function refuse(a, row)
  if not row then return { 'stale' } end
  if a.frame ~= '' and tonumber(a.seq) <= tonumber(row[SEQ]) then return repeated(a, row) end
  if not is_fenced(a, row) or row[SEQ] ~= a.before then return { 'stale' } end
  for _, entry in ipairs(a.ledger) do
    -- S3: a row that is damaged fails the append before anything of it is written.
    local stored = call('HGET', LEDGER, entry[1])
    if stored and not ledger_parts(stored) then error('a row of the ledger is damaged') end
    local holder = ledger_conflict(entry[1], entry[2])
    if holder then return { 'conflict', call('HGET', LEDGER, holder) } end
  end
  return nil
end

local function consume(a, row)
  local first, last = tonumber(row[CONSUMED]) + 1, tonumber(a.consumed)
  if last < first then return end
  for from = first, last, 500 do
    local names = {}
    for number = from, math.min(last, from + 499) do
      names[#names + 1] = a.run .. '.' .. text(number)
    end
    call('HDEL', REQUESTS, unpack(names))
  end
  row[CONSUMED] = a.consumed
end

local function free_guard(a, row)
  if not a.free_guard or row[GUARD] == '' then return end
  local key = guard_key(row[GUARD])
  if key and call('HGET', GUARDS, key) == a.run then call('HDEL', GUARDS, key) end
  row[FREED], row[GUARD] = row[GUARD], ''
end

local function mark_letter(a, row)
  if row[LETTER] == a.letter then return end
  if a.letter == '1' then call('ZADD', LETTERS, 0, a.run) else call('ZREM', LETTERS, a.run) end
  row[LETTER] = a.letter
end

-- Writes what was not refused. What can fail comes first: rows of the ledger that are damaged.
local function keep(a, row)
  for _, entry in ipairs(a.ledger) do ledger_put(unpack(entry)) end
  for _, value in ipairs(a.sealed) do seal(value[1], value[2]) end
  for _, other in ipairs(a.wakes) do
    if other == a.run then row[POKED] = '1' else poke(other) end
  end
  for _ = 1, a.starts do start() end
  if a.frame ~= '' then
    row[SEQ] = a.seq
    put(hashes, FRAMES, a.run .. '.' .. a.seq, a.frame)
  end
  row[STATUS], row[SUMMARY], row[OPEN], row[UPDATED] = a.status, a.summary, a.open, MOMENT
  if a.settled then row[DEATHS] = '0' end
  consume(a, row)
  free_guard(a, row)
  mark_letter(a, row)
  local asked = row[ASKED]
  if a.release then release(a.run, row, a.due, a.seen, a.polls) end
  write_row(a.run, row)
  return { 'applied', asked, '0' }
end

local function append(a)
  local row = read_row(a.run)
  return refuse(a, row) or keep(a, row)
end
