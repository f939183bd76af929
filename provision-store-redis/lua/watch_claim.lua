-- Takes rows whose watch has come, pushing it into the future.

local refused = clock(true)
if refused then return refused end
local hold, limit = arg(), tonumber(arg())
local found, till = {}, after(hold)
for n, key in ipairs(call('ZRANGEBYSCORE', WATCH, '-inf', MOMENT, 'LIMIT', 0, limit)) do
  local claim, _, id, json = ledger_parts(call('HGET', LEDGER, key))
  ledger_put(key, claim, till, id, json)
  found[n] = table.concat({ claim, till, id, json }, '\n')
end
return found
