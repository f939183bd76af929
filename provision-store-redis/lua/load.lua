-- Runs whole; an empty answer for unknown ones. Nothing is written.

local refused = clock(false)
if refused then return refused end
local answers = {}
for n = 1, tonumber(arg()) do
  local run = arg()
  local row = read_row(run)
  if row then
    answers[n] = record_of(run, row)
  elseif call('HEXISTS', ROWS, run) == 1 then
    -- Without its damaged row: whoever asks for it finds that out by reading the answer.
    answers[n] = { run, call('HGET', FIXED, run), call('HGET', INPUTS, run), '', {}, {} }
  else
    answers[n] = {}
  end
end
return answers
