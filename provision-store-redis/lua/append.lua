-- Appends: fenced writes of runs, each with everything that hangs on it, all or nothing.

-- Reads what one append brings beside its row; nothing is written yet.
local function read_append()
  local n = taken
  local a = {
    run = ARGV[n + 1], owner = ARGV[n + 2], epoch = ARGV[n + 3], nonce = ARGV[n + 4],
    before = ARGV[n + 5], seq = ARGV[n + 6], has_frame = ARGV[n + 7] == '1', at = ARGV[n + 8],
    frame = ARGV[n + 9], status = ARGV[n + 10], summary = ARGV[n + 11], open = ARGV[n + 12],
    settled = ARGV[n + 13] == '1', consumed = ARGV[n + 14], letter = ARGV[n + 15],
    free_guard = ARGV[n + 16] == '1', release = ARGV[n + 17] == '1', due = ARGV[n + 18],
    seen = ARGV[n + 19], polls = ARGV[n + 20], ledger = {}, sealed = {}, wakes = {},
  }
  taken = n + 20
  for i = 1, tonumber(arg()) do a.ledger[i] = { arg(), arg(), arg(), arg(), arg() } end
  for i = 1, tonumber(arg()) do a.sealed[i] = { arg(), arg() } end
  for i = 1, tonumber(arg()) do a.wakes[i] = arg() end
  a.starts = tonumber(arg())
  return a
end

-- S19: an earlier try of this very append is success; anything else is a lost lease.
local function repeated(a, row)
  local stored = call('HGET', FRAMES, a.run .. '.' .. a.seq)
  if not stored then return { 'stale' } end
  local epoch, body = string.match(stored, '^(%d+) %d+ (.*)$')
  if epoch ~= a.epoch or body ~= a.frame then return { 'stale' } end
  local lost = not is_held(row, a.owner, a.epoch, a.nonce)
  return { 'applied', row[ASKED], lost and '1' or '0' }
end

-- Compares fence, sequence and ledger; nil means that the append may be written.
local function refuse(a, row)
  if not row then return { 'stale' } end
  if a.has_frame and tonumber(a.seq) <= tonumber(row[SEQ]) then return repeated(a, row) end
  if not is_held(row, a.owner, a.epoch, a.nonce) or row[SEQ] ~= a.before then return { 'stale' } end
  for _, entry in ipairs(a.ledger) do
    local holder = ledger_conflict(entry[1], entry[2])
    if holder then return { 'conflict', call('HGET', LEDGER, holder) } end
  end
  return nil
end

local function consume(a, row)
  local first, last = tonumber(row[CONSUMED]) + 1, tonumber(a.consumed)
  if last < first then return end
  for number = first, last do call('HDEL', REQUESTS, a.run .. '.' .. text(number)) end
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

-- Writes what was not refused.
local function keep(a, row)
  if a.has_frame then
    row[SEQ] = a.seq
    call('HSET', FRAMES, a.run .. '.' .. a.seq, a.epoch .. ' ' .. a.at .. ' ' .. a.frame)
  end
  row[STATUS], row[SUMMARY], row[OPEN], row[UPDATED] = a.status, a.summary, a.open, text(NOW)
  if a.settled then row[DEATHS] = '0' end
  consume(a, row)
  free_guard(a, row)
  mark_letter(a, row)
  for _, entry in ipairs(a.ledger) do ledger_put(unpack(entry)) end
  for _, value in ipairs(a.sealed) do seal(value[1], value[2]) end
  for _, other in ipairs(a.wakes) do
    if other == a.run then row[POKED] = '1' else poke(other) end
  end
  for _ = 1, a.starts do start() end
  local asked = row[ASKED]
  if a.release then release(a.run, row, a.due, a.seen, a.polls) end
  write_row(a.run, row)
  return { 'applied', asked, '0' }
end

-- The arguments of starts that a refused append brings.
local STARTED_ARGS = 26

local refused = clock(true) or (LANES and lanes_left())
if refused then return refused end
local answers = {}
for n = 1, tonumber(arg()) do
  local a = read_append()
  local row = read_row(a.run)
  local next_one = taken + a.starts * STARTED_ARGS
  answers[n] = refuse(a, row) or keep(a, row)
  taken = next_one
end
tell()
return answers
