-- Texts of rows: read and written one by one, or together by a script that serves many calls.

-- Lane, priority and tenant of a row.
local PLACED = '%d%d%d%d%d%d%.%d%d%d%d%d%d%d%d%d%d%.%w*'

-- What a script that serves many calls at once knows of rows, by run: texts, and false for those
-- that are not there. nil: rows are read and written one by one.
local kept = nil
-- What such a script writes at its end, with one command for each key: fields and values of hashes,
-- members of sorted sets with their scores, and members that go.
local hashes, sets, gone = {}, {}, {}
-- How many arguments a command takes at once; an even number.
local SLICE = 1000

local function put(of, key, first, second)
  local known = of[key]
  if not known then
    known = { n = 0 }
    of[key] = known
  end
  local n = known.n
  known[n + 1], known[n + 2] = first, second
  known.n = n + (second and 2 or 1)
end

local function write_all(command, of)
  for key, known in pairs(of) do
    for from = 1, known.n, SLICE do
      call(command, key, unpack(known, from, math.min(known.n, from + SLICE - 1)))
    end
    of[key] = nil
  end
end

-- Makes the writes that wait. What goes was there before: nothing that is put is among it.
local function write_kept()
  write_all('ZREM', gone)
  write_all('ZADD', sets)
  write_all('HSET', hashes)
end

-- From now on rows are kept, and written by `write_kept`. Reads those of so many runs, which are
-- the arguments from `first` on.
local function keep_rows(first, count)
  kept = {}
  for from = first, first + count - 1, SLICE do
    local last = math.min(from + SLICE, first + count) - 1
    local found = call('HMGET', ROWS, unpack(ARGV, from, last))
    for n = from, last do kept[ARGV[n]] = found[n - from + 1] end
  end
end

-- The row of a run as it is stored; false where there is none.
local function row_text(run)
  local stored = kept and kept[run]
  if stored ~= nil then return stored end
  stored = call('HGET', ROWS, run)
  if kept then kept[run] = stored end
  return stored
end

local function put_text(run, stored)
  if not kept then return call('HSET', ROWS, run, stored) end
  kept[run] = stored
  put(hashes, ROWS, run, stored)
end

