-- Everything stored of a run: what lists do not need.

-- Fields of a hash, in slices: a call takes only so many arguments.
local function slices(key, run, first, last)
  local found, n = {}, 0
  for from = first, last, 500 do
    local names, count = {}, 0
    for number = from, math.min(last, from + 499) do
      count = count + 1
      names[count] = run .. '.' .. text(number)
    end
    for _, value in ipairs(call('HMGET', key, unpack(names))) do
      n = n + 1
      found[n] = value
    end
  end
  return found
end

local function record_of(run, row)
  local frames, requests = {}, {}
  if row[SEQ] ~= '0' then frames = slices(FRAMES, run, 1, tonumber(row[SEQ])) end
  if row[ASKED] ~= row[CONSUMED] then
    requests = slices(REQUESTS, run, tonumber(row[CONSUMED]) + 1, tonumber(row[ASKED]))
  end
  return {
    run, call('HGET', FIXED, run), call('HGET', INPUTS, run), table.concat(row, '\n') .. '\n',
    frames, requests,
  }
end
