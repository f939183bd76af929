-- Leases: renewed, taken over, given back and granted, in this order.

-- None of the dead incarnations is renewed for so long; at most so many are forgotten at once.
local DEAD_KEPT, FORGOTTEN_MAX = 24 * 3600 * 1000, 100
-- S25: no more is granted in one call once the granted hold so many bytes.
local GRANTED_BYTES_MAX = 8 * 1024 * 1024

-- Runs of an incarnation, with their epochs.
local function held_by(who)
  local found = {}
  for n, member in ipairs(call('ZRANGEBYLEX', HELD, '[' .. who .. ' ', '(' .. who .. '!')) do
    found[n] = { string.sub(member, 38, 73), string.sub(member, 75) }
  end
  return found
end

-- Marks an incarnation dead, and only then makes its runs due. `died` is empty for one that retired.
local function bury(who, died)
  if call('ZREM', ALIVE, who) == 0 then return end
  call('ZADD', DEAD, MOMENT, who)
  for _, held in ipairs(held_by(who)) do
    local run, member = held[1], who .. ' ' .. held[1] .. ' ' .. held[2]
    local row = read_row(run)
    -- A damaged row does not know what it is listed under.
    if not row or held_member(run, row) ~= member then call('ZREM', HELD, member) end
    if row then
      if died ~= '' and row[OPEN] == '1' then row[DEATHS] = text(tonumber(row[DEATHS]) + 1) end
      row[DIED] = died
      row[DUE] = MOMENT
      let_go(run, row)
      write_row(run, row)
    end
  end
end

local function bury_expired()
  local over = call('ZRANGEBYSCORE', ALIVE, '-inf', MOMENT, 'WITHSCORES')
  for n = 1, #over, 2 do bury(over[n], text(tonumber(over[n + 1]))) end
end

local function forget_dead()
  local limit = text(NOW - DEAD_KEPT)
  local long = call('ZRANGEBYSCORE', DEAD, '-inf', limit, 'LIMIT', 0, FORGOTTEN_MAX)
  if #long > 0 then call('ZREM', DEAD, unpack(long)) end
end

-- A release by its fence; a stale one is passed over.
local function release_one()
  local run, owner, epoch, nonce, due, seen, polls = arg(), arg(), arg(), arg(), arg(), arg(), arg()
  local row = read_row(run)
  if not row or not is_held(row, owner, epoch, nonce) then return end
  release(run, row, due, seen, polls)
  write_row(run, row)
end

-- Gives back a lease that its owner never heard of.
local function give_back(worker)
  local run, epoch = arg(), arg()
  local row = read_row(run)
  if not row or row[OWNER] ~= worker or row[EPOCH] ~= epoch then return end
  row[DUE] = MOMENT
  row[POKED] = '0'
  let_go(run, row)
  write_row(run, row)
end

-- How much of an answer a record is.
local function bytes_of(record)
  local bytes = 0
  for _, parts in ipairs({ { record[2], record[3], record[4] }, record[5], record[6] }) do
    for _, part in ipairs(parts) do bytes = bytes + (part and #part or 0) end
  end
  return bytes
end

-- Leases a run that nobody holds. Nonces are below 2^53, and no two of a call are the same.
local function grant(run, row, worker, nonce)
  unplace(run, row)
  local died = row[DIED]
  row[EPOCH] = text(tonumber(row[EPOCH]) + 1)
  row[OWNER], row[NONCE], row[UPDATED] = worker, nonce, MOMENT
  row[POKED], row[DIED] = '0', ''
  call('ZADD', HELD, 0, held_member(run, row))
  count_lease(run, row)
  write_row(run, row)
  local record = record_of(run, row)
  record[#record + 1] = died
  return record
end

-- Those of the proposed runs that are due, unowned and in these lanes, as members of READY.
local function proposed(lanes, limit, room)
  local allowed, seen, found = {}, {}, {}
  for _, lane in ipairs(lanes) do allowed[lane] = true end
  for _ = 1, tonumber(arg()) do
    local run = arg()
    local row = #found < limit and not seen[run] and read_row(run)
    if row and row[OWNER] == '' and tonumber(row[DUE]) <= NOW
      and allowed[string.sub(row[SPOT], 1, 6)]
      and (not room or room.take(string.sub(row[SPOT], 1, 6))) then
      seen[run] = true
      found[#found + 1] = ready_member(run, row)
    end
  end
  return found
end

local refused = clock(true)
if refused then return refused end
local worker, ttl, nonce, retire = arg(), arg(), tonumber(arg()), arg() == '1'
for _ = 1, tonumber(arg()) do
  local who = arg()
  if who ~= worker then bury(who, MOMENT) end
end
-- A dead incarnation is never renewed: its process goes on as a new one.
if call('ZSCORE', DEAD, worker) then
  tell()
  return { MOMENT, '0', {}, {}, {}, '', {} }
end
call('ZADD', ALIVE, after(ttl), worker)
bury_expired()
forget_dead()
for _ = 1, tonumber(arg()) do release_one() end
for _ = 1, tonumber(arg()) do give_back(worker) end

-- `none`, `due` or `these`.
local wanted, limit = arg(), tonumber(arg())
local queues, code = names(), names()
local known = caps()
local room = known and room_of(known)
local leased, due = {}, ''
if wanted ~= 'none' and not retire then
  local lanes, bytes = lanes_of(queues, code or {}), 0
  for _, lane in ipairs(lanes) do promote(lane) end
  local members = wanted == 'these' and proposed(lanes, limit, room) or pick(lanes, limit, '', room)
  for n, member in ipairs(members) do
    local run = string.sub(member, -36)
    local row = read_row(run)
    local traced = row and row[PLACE] == '2' and ready_member(run, row) == member
    if not traced then call('ZREM', READY, member) end
    if row and row[OWNER] == '' then
      local record = grant(run, row, worker, text(nonce + n))
      leased[#leased + 1], bytes = record, bytes + bytes_of(record)
      if bytes >= GRANTED_BYTES_MAX then break end
    end
  end
  due = next_due(lanes)
end
-- Everything is written: nothing may fail the answer.
pcall(sweep_counted)
if retire then bury(worker, '') end
local peers = {}
for _, who in ipairs(call('ZRANGE', ALIVE, 0, -1)) do
  if who ~= worker then peers[#peers + 1] = who end
end
tell()
return {
  MOMENT, retire and '0' or '1', leased, held_by(worker), peers, due, room and room.names() or {},
}
