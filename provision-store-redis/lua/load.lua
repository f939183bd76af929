-- Runs whole; an empty answer for unknown ones. Nothing is written.

local refused = clock(false)
if refused then return refused end
local answers = {}
for n = 1, tonumber(arg()) do
  local run = arg()
  local row = read_row(run)
  answers[n] = row and record_of(run, row) or {}
end
return answers
