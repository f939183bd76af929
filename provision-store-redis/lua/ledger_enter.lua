-- Enters a row that the watch or a sweep found; S17: rows of a run under way are its own.

-- Those that move by a person's order alone.
local AT_REST = {
  Paused = true, Parked = true, Succeeded = true, PartlySucceeded = true, RolledBack = true,
  RolledBackKeeping = true, TornDown = true,
}

local refused = clock(true)
if refused then return refused end
local run, key, claim, watch, id, json = arg(), arg(), arg(), arg(), arg(), arg()
local ends_removal = arg() == '1'
local known = call('HGET', LEDGER, key)
local row = read_row(run)
if row and not AT_REST[row[STATUS]] then
  if not (ends_removal and known and select(3, ledger_parts(known)) == id) then return 0 end
end
if known == table.concat({ claim, watch, id, json }, '\n') then return 0 end
ledger_put(key, claim, watch, id, json)
return 1
