-- Forgets entries.

local refused = clock(true)
if refused then return refused end
for _ = 1, tonumber(arg()) do
  local run = arg()
  local row = read_row(run)
  if row then unplace(run, row) end
  call('HDEL', ROWS, run)
end
return 1
