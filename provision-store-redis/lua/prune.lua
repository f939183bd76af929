-- Removes runs that are over, each whole or not at all, in one step of a walk by their ids. S1: who
-- may go is judged here, where it goes.

-- How runs end of which nothing stands, and of which something may.
local UNDONE = { RolledBack = true, TornDown = true }
local STANDING = { Succeeded = true, PartlySucceeded = true, RolledBackKeeping = true }
-- Fields that are taken away in one command.
local SLICE = 500

local refused = clock(true)
if refused then return refused end
local from, before, succeeded, letters, most, looks, family_max, frames_max, dry =
  arg(), tonumber(arg()), arg() == '1', arg() == '1', tonumber(arg()), tonumber(arg()),
  tonumber(arg()), tonumber(arg()), arg() == '1'

local function ledger_keys(run)
  return call('ZRANGEBYLEX', LEDGER_ORDER, '[' .. run .. '.', '(' .. run .. '/')
end

local function sightings(run)
  return call('ZRANGEBYLEX', SIGHTS, '[' .. run .. ' ', '(' .. run .. '!')
end

-- A run and those below it, and no more than one too many.
local function family_of(top)
  local family, at = { top }, 1
  while family[at] and #family <= family_max do
    local run, room = family[at], family_max + 1 - #family
    local first, behind = '[' .. run .. ' ', '(' .. run .. '!'
    local found = call('ZRANGEBYLEX', CHILDREN, first, behind, 'LIMIT', 0, room)
    for _, member in ipairs(found) do family[#family + 1] = string.sub(member, -36) end
    at = at + 1
  end
  return family
end

-- A table from its JSON; nil where it cannot be read.
local function decoded(json)
  local whole, found = pcall(cjson.decode, json)
  return whole and type(found) == 'table' and found or nil
end

-- Whether anything it made may exist, or was seen and not accounted for. What is damaged may.
local function owns(run)
  local settled = {}
  for _, key in ipairs(ledger_keys(run)) do
    local _, watch, _, json = ledger_parts(call('HGET', LEDGER, key) or '')
    local row = decoded(json)
    if not row or watch ~= '' or row.state ~= 'gone' then return true end
    settled[tostring(row.path) .. '\n' .. tostring(row.external_id)] = true
  end
  for _, member in ipairs(sightings(run)) do
    local seen = decoded(string.match(member, '\n(.*)$'))
    if not seen or not settled[tostring(seen.path) .. '\n' .. tostring(seen.external_id)] then
      return true
    end
  end
  return false
end

-- Whether a run, or anything it has made, is not over and done with. What is damaged stays.
local function stays(run)
  local row = read_row(run)
  return not row or not (UNDONE[row[STATUS]] or succeeded and STANDING[row[STATUS]])
    or row[OWNER] ~= '' or row[DUE] ~= NEVER or row[GUARD] ~= ''
    or tonumber(row[UPDATED]) >= before or not letters and row[LETTER] ~= '0' or owns(run)
end

-- What never changes about a run; nil where it cannot be read.
local function fixed_of(run)
  local fixed = decoded(call('HGET', FIXED, run))
  if not fixed or type(fixed.saga) ~= 'table' then return nil end
  local parent = fixed.parent
  if type(parent) == 'table' and type(parent.run) == 'string' then return fixed, parent.run end
  return (parent == nil or parent == cjson.null) and fixed or nil
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

local function remove(run, row, fixed, parent)
  local ended = tonumber(row[UPDATED])
  call('HSET', TOMBSTONES, run, cjson.encode({
    run = run, key = fixed.key, saga = fixed.saga.name, version = fixed.saga.version,
    input_hash = fixed.input_hash, status = row[STATUS], created_at = fixed.created_at,
    ended_at = ended, pruned_at = NOW,
  }))
  call('ZADD', TOMBSTONE_ENDS, ended, run)
  if type(fixed.key) == 'string' then call('ZADD', TOMBSTONE_KEYS, 0, fixed.key) end
  call('HSET', META, 'format', '2')
  take_away(FRAMES, run, 1, tonumber(row[SEQ]))
  take_away(REQUESTS, run, tonumber(row[CONSUMED]) + 1, tonumber(row[ASKED]))
  remove_ledger(run)
  remove_secrets(run)
  if parent then call('ZREM', CHILDREN, parent .. ' ' .. run) end
  call('ZREM', LETTERS, run)
  call('ZREM', RUNS, run)
  call('HDEL', FIXED, run)
  call('HDEL', INPUTS, run)
  call('HDEL', ROWS, run)
end

local runs =
  call('ZRANGEBYLEX', RUNS, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, looks + 1)
local removed, looked, frames, last = {}, 0, 0, ''
for _, run in ipairs(runs) do
  if looked >= looks or #removed >= most or frames >= frames_max then return { removed, last } end
  looked, last = looked + 1, run
  local fixed, parent
  -- Cheap before dear: most runs stay for what their own row says.
  if not stays(run) then fixed, parent = fixed_of(run) end
  if fixed and not (parent and call('HEXISTS', ROWS, parent) == 1) then
    local family = family_of(run)
    looked = looked + #family - 1
    local free = #family <= family_max
    for n = 2, free and #family or 0 do
      if stays(family[n]) then
        free = false
        break
      end
    end
    if free then
      local row = read_row(run)
      removed[#removed + 1], frames = run, frames + tonumber(row[SEQ])
      if not dry then remove(run, row, fixed, parent) end
    end
  end
end
return { removed, '' }
