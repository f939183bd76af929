-- Removes runs that are over, each whole or not at all, in one step of a walk by their ids. S1: who
-- may go is judged here, where it goes.

local OVER = {
  Succeeded = true, PartlySucceeded = true, RolledBack = true, RolledBackKeeping = true,
  TornDown = true,
}
-- Fields that are taken away in one command.
local SLICE = 500

local function ledger_keys(run)
  return call('ZRANGEBYLEX', LEDGER_ORDER, '[' .. run .. '.', '(' .. run .. '/')
end

local function sightings(run)
  return call('ZRANGEBYLEX', SIGHTS, '[' .. run .. ' ', '(' .. run .. '!')
end

local function children(run)
  local found = call('ZRANGEBYLEX', CHILDREN, '[' .. run .. ' ', '(' .. run .. '!')
  for n, member in ipairs(found) do found[n] = string.sub(member, -36) end
  return found
end

-- Whether anything it made may exist, or was seen and not accounted for.
local function owns(run)
  local settled = {}
  for _, key in ipairs(ledger_keys(run)) do
    local _, watch, _, json = ledger_parts(call('HGET', LEDGER, key) or '')
    -- Text in the row has its quotes escaped.
    if watch ~= '' or not string.find(json, '"state":"gone"', 1, true) then return true end
    local row = cjson.decode(json)
    settled[row.path .. '\n' .. tostring(row.external_id)] = true
  end
  for _, member in ipairs(sightings(run)) do
    local seen = cjson.decode(string.match(member, '\n(.*)$'))
    if not settled[seen.path .. '\n' .. tostring(seen.external_id)] then return true end
  end
  return false
end

-- Whether it, or a run below it, is not over and done with. What is damaged stays.
local function needed(run)
  local row = read_row(run)
  if not row or not OVER[row[STATUS]] or row[OWNER] ~= '' or row[DUE] ~= NEVER
    or row[GUARD] ~= '' or owns(run) then
    return true
  end
  for _, child in ipairs(children(run)) do
    if needed(child) then return true end
  end
  return false
end

local function take_away(key, run, first, last)
  for from = first, last, SLICE do
    local names = {}
    for number = from, math.min(last, from + SLICE - 1) do
      names[#names + 1] = run .. '.' .. text(number)
    end
    call('HDEL', key, unpack(names))
  end
end

local function remove_ledger(run)
  for _, key in ipairs(ledger_keys(run)) do
    local _, _, id = ledger_parts(call('HGET', LEDGER, key))
    if id ~= '' then call('ZREM', IDS, id .. '\n' .. key) end
    call('ZREM', LEDGER_ORDER, key)
    call('HDEL', LEDGER, key)
  end
  for _, member in ipairs(sightings(run)) do call('ZREM', SIGHTS, member) end
end

local function remove_secrets(run)
  local scope = string.gsub(run, '.', function(c) return string.format('%02x', string.byte(c)) end)
  local range = { '[' .. scope .. '.', '(' .. scope .. '/' }
  for _, key in ipairs(call('ZRANGEBYLEX', SECRET_ORDER, range[1], range[2])) do
    call('ZREM', SECRET_ORDER, key)
    call('HDEL', SECRETS, key)
  end
end

local function remove(run, row, fixed)
  local ended = tonumber(row[UPDATED])
  call('HSET', TOMBSTONES, run, cjson.encode({
    run = run, key = fixed.key, saga = fixed.saga.name, version = fixed.saga.version,
    input_hash = fixed.input_hash, status = row[STATUS], created_at = fixed.created_at,
    ended_at = ended, pruned_at = NOW,
  }))
  call('ZADD', TOMBSTONE_ENDS, ended, run)
  take_away(FRAMES, run, 1, tonumber(row[SEQ]))
  take_away(REQUESTS, run, tonumber(row[CONSUMED]) + 1, tonumber(row[ASKED]))
  remove_ledger(run)
  remove_secrets(run)
  if fixed.parent ~= cjson.null then call('ZREM', CHILDREN, fixed.parent.run .. ' ' .. run) end
  call('ZREM', LETTERS, run)
  call('ZREM', RUNS, run)
  call('HDEL', FIXED, run)
  call('HDEL', INPUTS, run)
  call('HDEL', ROWS, run)
end

local refused = clock(true)
if refused then return refused end
local from, before, letters, most, looks, frames_max, dry =
  arg(), tonumber(arg()), arg() == '1', tonumber(arg()), tonumber(arg()), tonumber(arg()),
  arg() == '1'
local runs = call('ZRANGEBYLEX', RUNS, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, looks)
local removed, frames = {}, 0
for _, run in ipairs(runs) do
  local row = read_row(run)
  local old = row and OVER[row[STATUS]] and tonumber(row[UPDATED]) < before
  if old and (letters or row[LETTER] == '0') then
    local whole, fixed = pcall(cjson.decode, call('HGET', FIXED, run) or '')
    local parent = whole and fixed.parent ~= cjson.null and fixed.parent.run
    if whole and not (parent and call('HEXISTS', ROWS, parent) == 1) and not needed(run) then
      removed[#removed + 1], frames = run, frames + tonumber(row[SEQ])
      if not dry then remove(run, row, fixed) end
      if #removed >= most or frames >= frames_max then return { removed, run } end
    end
  end
end
return { removed, #runs == looks and runs[#runs] or '' }
