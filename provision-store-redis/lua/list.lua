-- One stretch of a listing, newest run first: so many rows are looked at, not more, so that nobody
-- waits long for a filter that selects little. Nothing is written.

local PRIORITY_WIDTH = 10

-- Lanes of a saga and a version; nil means all.
local function lanes_of_saga(name, version)
  if name == '' and version == '' then return nil end
  local found, all = {}, call('HGETALL', LANES)
  for n = 1, #all, 2 do
    -- Both ways are kept: numbers by names, and names by numbers.
    local json = string.match(all[n], '^[^\n]*\n(.*)$')
    local saga = json and cjson.decode(json)
    local same = saga and (name == '' or saga.name == cjson.decode(name))
    if same and (version == '' or saga.version == tonumber(version)) then found[all[n + 1]] = true end
  end
  return found
end

-- What a stretch looks at, as the ids of runs, and the member after which the next one begins.
local function stretch(by, of, from, count)
  if by == 'key' or by == 'guard' then
    return { call('HGET', by == 'key' and STARTS or GUARDS, of) or nil }, ''
  end
  local key, prefix = by == 'letters' and LETTERS or RUNS, ''
  if by == 'parent' then key, prefix = CHILDREN, of .. ' ' end
  local to = from ~= '' and '(' .. prefix .. from or (prefix == '' and '+' or '(' .. of .. '!')
  local least = prefix == '' and '-' or '[' .. prefix
  local found = call('ZREVRANGEBYLEX', key, to, least, 'LIMIT', 0, count)
  for n, member in ipairs(found) do found[n] = string.sub(member, -36) end
  return found, #found == count and found[#found] or ''
end

local refused = clock(false)
if refused then return refused end
local by, of, from, count, limit = arg(), arg(), arg(), tonumber(arg()), tonumber(arg())
local statuses = names()
local lanes = lanes_of_saga(arg(), arg())
local tenant, prefix, due_by, parent = arg(), arg(), arg(), arg()
local guard, letters = arg(), arg() == '1'

local function fits(run, row)
  return (not statuses or statuses[row[STATUS]])
    and (not lanes or lanes[string.sub(row[SPOT], 1, 6)])
    and (tenant == '' or string.sub(row[SPOT], 9 + PRIORITY_WIDTH) == tenant)
    and (prefix == '' or string.sub(row[KEY], 1, #prefix) == prefix)
    and (due_by == '' or tonumber(row[DUE]) <= tonumber(due_by))
    and (guard == '' or row[GUARD] ~= '' and guard_key(row[GUARD]) == cjson.decode(guard))
    and (not letters or row[LETTER] == '1')
    and (parent == '' or call('ZSCORE', CHILDREN, parent .. ' ' .. run))
end

local runs, next_one = stretch(by, of, from, count)
local found = {}
for _, run in ipairs(runs) do
  local row = read_row(run)
  -- Without its row, if that is damaged, a run goes along whatever is looked for: who reads the
  -- answer tells of the damage.
  if not row or fits(run, row) then
    local stored = row and table.concat(row, '\n') .. '\n' or ''
    found[#found + 1] = { run, call('HGET', FIXED, run), call('HGET', INPUTS, run), stored }
    if #found >= limit then
      next_one = run
      break
    end
  end
end
return { next_one, found }
