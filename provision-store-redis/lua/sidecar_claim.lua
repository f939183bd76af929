-- Due entries, each hidden from others for so many milliseconds, and how long until the next one.

local refused = clock(true)
if refused then return refused end
local limit = tonumber(arg())
local lanes, hidden = without(lanes_of(names(), nil), names()), arg()
for _, lane in ipairs(lanes) do promote(lane) end
local found = {}
for _, member in ipairs(pick(lanes, limit, '')) do
  local run = string.sub(member, -36)
  local row = read_row(run)
  if row and row[PLACE] == '2' and ready_member(run, row) == member then
    set_due(run, row, after(hidden))
    write_row(run, row)
    found[#found + 1] = run
  else
    call('ZREM', READY, member)
  end
end
local due = next_due(lanes)
return { found, due == '' and '' or text(math.max(0, tonumber(due) - NOW)) }
