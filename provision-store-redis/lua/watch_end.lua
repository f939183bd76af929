-- Moves the watch of a row, if it still is where its claim has put it.

local refused = clock(true)
if refused then return refused end
local key, claimed, later = arg(), arg(), arg()
local stored = call('HGET', LEDGER, key)
if not stored then return 0 end
local claim, watch, id, json = ledger_parts(stored)
if watch ~= claimed then return 0 end
ledger_put(key, claim, later, id, json)
return 1
