-- Puts entries where their due times say; a known one moves there.

local refused = clock(true) or lanes_left()
if refused then return refused end
for _ = 1, tonumber(arg()) do
  local run, due, lane, spot = arg(), arg(), arg(), arg()
  local row = read_row(run)
  if row then
    unplace(run, row)
  else
    row = {
      'Offered', due, '0', '0', '', '0', '0', '0', '0', '0', '', '0', '0', '', '', '', '0', '0',
      '', '', '',
    }
  end
  row[SPOT] = lane_number(lane) .. '.' .. spot
  set_due(run, row, due)
  write_row(run, row)
end
tell()
return 1
