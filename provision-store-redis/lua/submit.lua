-- Requests to runs that are there.

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

-- Stores a request and makes the run due; one that opens the run anew takes its business key, too.
local function request(kind, run)
  local body, holder = arg(), kind == 'reopen' and retake(run)
  if holder then return { 'guarded', head_of(holder) } end
  local row = read_row(run)
  if not row then
    local left = call('HGET', TOMBSTONES, run)
    return left and { 'pruned', left } or { 'none' }
  end
  local number = text(tonumber(row[ASKED]) + 1)
  row[ASKED] = number
  row[UPDATED] = MOMENT
  call('HSET', REQUESTS, run .. '.' .. number, MOMENT .. ' ' .. body)
  -- A leased run is not touched: its release compares what was consumed with what was asked.
  if row[OWNER] == '' then set_due(run, row, MOMENT) end
  write_row(run, row)
  return { 'requested', number }
end
