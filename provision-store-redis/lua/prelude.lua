-- Part of every script: the keys by name, the arguments one after the other, the store's clock.
--
-- All keys of a namespace carry it as their hash tag, so they lie in one slot of a cluster; each is
-- declared. A script is given as many of them, in this order, as it may touch.

-- Globals are looked up by name at each use; these are used often.
local KEYS, ARGV = KEYS, ARGV

local META, ROWS, FRAMES, REQUESTS, READY, LATER, HELD, GUARDS, LETTERS =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local LEDGER, LEDGER_ORDER, NAMES, IDS, WATCH, SECRETS, SECRET_ORDER =
  KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local FIXED, INPUTS, RUNS, STARTS, LANES, CHILDREN, ALIVE, DEAD, TURNS, SIGHTS, TOMBSTONES,
  TOMBSTONE_ENDS, TOMBSTONE_KEYS, CAPPED =
  KEYS[17], KEYS[18], KEYS[19], KEYS[20], KEYS[21], KEYS[22], KEYS[23], KEYS[24], KEYS[25],
  KEYS[26], KEYS[27], KEYS[28], KEYS[29], KEYS[30]

local call = redis.call
-- Of the namespace: the second one since a run was removed, so that a program that does not look
-- for tombstones starts nothing anew.
local FORMATS = { ['1'] = true, ['2'] = true }
-- A moment that never comes; beyond what a number of this language keeps exactly.
local NEVER = '9223372036854775807'
-- The clock is written down when it has gone on by so many milliseconds.
local CLOCK_STEP = 100
-- Whether the caller waits for replicas: it waits for what this call has replicated, so there must
-- be something. A last argument of the caller's own that reads so costs one write more.
local WAITED = ARGV[#ARGV] == 'waited'

-- The clock, as a number and as text.
local NOW, MOMENT = 0, ''
local taken = 0

-- The next argument.
local function arg()
  taken = taken + 1
  return ARGV[taken]
end

-- A whole number as text.
local function text(number)
  return string.format('%.0f', number)
end

-- The moment `ms` from now, as text.
local function after(ms)
  local at = NOW + tonumber(ms)
  if at >= 9.2e18 then return NEVER end
  return text(at)
end

-- Reads the clock into NOW; answers with an error reply when the namespace is not there.
--
-- S20: when the server's clock was set back, or another server with an earlier one took over, time
-- is counted on from what was written down: it goes back by less than CLOCK_STEP beside writers,
-- and never behind the last write.
local function clock(may_write)
  local time, meta = call('TIME'), call('HMGET', META, 'format', 'last', 'skew')
  if not FORMATS[meta[1]] then
    return redis.error_reply('PROVISIONGONE the keys of the namespace are not there')
  end
  local last, skew = tonumber(meta[2] or '0'), tonumber(meta[3] or '0')
  NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
  if NOW < last then
    skew = skew + last + CLOCK_STEP - NOW
    NOW = last + CLOCK_STEP
    MOMENT = text(NOW)
    if may_write then call('HSET', META, 'last', MOMENT, 'skew', text(skew)) end
    return nil
  end
  MOMENT = text(NOW)
  if may_write and (WAITED or NOW >= last + CLOCK_STEP) then call('HSET', META, 'last', MOMENT) end
  return nil
end
