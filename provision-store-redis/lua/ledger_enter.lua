-- Enters a row that the watch or a sweep found; S17: rows of a run under way are its own, and one
-- that is not there has none.

-- Those that move by a person's order alone.
local AT_REST = {
  Paused = true, Parked = true, Succeeded = true, PartlySucceeded = true, RolledBack = true,
  RolledBackKeeping = true, TornDown = true,
}

local refused = clock(true)
if refused then return refused end
local run, key, claim, watch, id, json = arg(), arg(), arg(), arg(), arg(), arg()
local later, gone = arg() == '1', arg() == '1'
local known = call('HGET', LEDGER, key)
if known == table.concat({ claim, watch, id, json }, '\n') then return 0 end
local _, held, of, text
if known then _, held, of, text = ledger_parts(known) end
if later and text and string.find(text, '"state":"alive"', 1, true) then
  -- What is being removed is changed by who holds it; text in the row has its quotes escaped.
  if not (gone and of == id and held == watch) then return 0 end
else
  local row = read_row(run)
  if not row or not AT_REST[row[STATUS]] then return 0 end
end
ledger_put(key, claim, watch, id, json)
return 1
