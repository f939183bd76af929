-- Rows of the ledger and sealed values: put with their indexes.
--
-- A row is kept as the name it claims, when it is watched, its external id (each as JSON, or empty)
-- and the row itself, on a line each. Its key sorts by run, path, generation and index.

local function ledger_parts(stored)
  return string.match(stored, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
end

local function ledger_put(key, claim, watch, id, json)
  local stored = call('HGET', LEDGER, key)
  if stored then
    local old_claim, old_watch, old_id = ledger_parts(stored)
    if old_claim ~= '' and old_claim ~= claim then
      call('ZREM', NAMES, old_claim .. '\n' .. key)
    end
    if old_watch ~= '' and watch == '' then call('ZREM', WATCH, key) end
    if old_id ~= '' and old_id ~= id then call('ZREM', IDS, old_id .. '\n' .. key) end
  else
    call('ZADD', LEDGER_ORDER, 0, key)
  end
  if claim ~= '' then call('ZADD', NAMES, 0, claim .. '\n' .. key) end
  if watch ~= '' then call('ZADD', WATCH, watch, key) end
  if id ~= '' then call('ZADD', IDS, 0, id .. '\n' .. key) end
  call('HSET', LEDGER, key, table.concat({ claim, watch, id, json }, '\n'))
end

-- The key of another run's live created row of the same name; nil when there is none.
local function ledger_conflict(key, claim)
  if claim == '' then return nil end
  local stored = call('HGET', LEDGER, key)
  -- A row that has the name already keeps it, whatever the watch has entered since.
  if stored and ledger_parts(stored) == claim then return nil end
  local run = string.sub(key, 1, 36)
  local prefix = '[' .. claim .. '\n'
  for _, member in ipairs(call('ZRANGEBYLEX', NAMES, prefix, prefix .. '\255')) do
    local holder = string.sub(member, #claim + 2)
    if string.sub(holder, 1, 36) ~= run then return holder end
  end
  return nil
end

-- Puts a sealed value; one that is there stays as it is.
local function seal(key, value)
  if call('HSETNX', SECRETS, key, value) == 1 then call('ZADD', SECRET_ORDER, 0, key) end
end
