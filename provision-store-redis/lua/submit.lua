-- Submissions: new runs and requests, the whole batch at once.

-- Stores a request and makes the run due.
local function request(run, body)
  local row = read_row(run)
  if not row then
    local left = call('HGET', TOMBSTONES, run)
    return left and { 'pruned', left } or { 'none' }
  end
  local number = text(tonumber(row[ASKED]) + 1)
  row[ASKED] = number
  row[UPDATED] = text(NOW)
  call('HSET', REQUESTS, run .. '.' .. number, text(NOW) .. ' ' .. body)
  -- A leased run is not touched: its release compares what was consumed with what was asked.
  if row[OWNER] == '' then set_due(run, row, text(NOW)) end
  write_row(run, row)
  return { 'requested', number }
end

-- Takes the business key again that the run's end has freed; answers who holds it instead.
local function retake(run)
  local row = read_row(run)
  if not row or row[FREED] == '' then return nil end
  local key = guard_key(row[FREED])
  -- Who cannot tell its own key does not get it back.
  if not key then return run end
  local holder = call('HGET', GUARDS, key)
  if holder then return holder end
  call('HSET', GUARDS, key, run)
  row[GUARD], row[FREED] = row[FREED], ''
  write_row(run, row)
  return nil
end

local refused = clock(true) or lanes_left()
if refused then return refused end
local answers = {}
for n = 1, tonumber(arg()) do
  local kind = arg()
  if kind == 'run' then
    answers[n] = start()
  else
    local run, body = arg(), arg()
    local holder = kind == 'reopen' and retake(run)
    answers[n] = holder and { 'guarded', head_of(holder) } or request(run, body)
  end
end
tell()
return answers
