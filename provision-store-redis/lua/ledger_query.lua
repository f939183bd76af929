-- One stretch of a query of the ledger, in the order of its keys. Nothing is written.

local refused = clock(false)
if refused then return refused end
local id, from, to, count, limit = arg(), arg(), arg(), tonumber(arg()), tonumber(arg())
local run, path, tenant, provider, kind = arg(), arg(), arg(), arg(), arg()
local states = names()
local wanted = { path = path, tenant = tenant, provider = provider, kind = kind }

local function fits(key, json)
  if run ~= '' and string.sub(key, 1, 36) ~= run then return false end
  local row
  for name, json_text in pairs(wanted) do
    if json_text ~= '' then
      row = row or cjson.decode(json)
      if row[name] ~= cjson.decode(json_text) then return false end
    end
  end
  if not states then return true end
  row = row or cjson.decode(json)
  return states[row.state]
end

local key, prefix = LEDGER_ORDER, ''
if id ~= '' then key, prefix = IDS, id .. '\n' end
local least = string.sub(from, 1, 1) .. prefix .. string.sub(from, 2)
local most = to == '' and (prefix == '' and '+' or '[' .. prefix .. '\255') or '(' .. prefix .. to
local members = call('ZRANGEBYLEX', key, least, most, 'LIMIT', 0, count)
local found, last = {}, ''
for _, member in ipairs(members) do
  last = string.sub(member, #prefix + 1)
  local stored = call('HGET', LEDGER, last)
  local _, _, _, json = string.match(stored, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  if fits(last, json) then found[#found + 1] = stored end
  if #found >= limit then return { last, found } end
end
return { #members == count and last or '', found }
