-- Appends and submissions: those of many callers come together, and none is the trouble of another.
--
-- Arguments: how many, the run of each, and of each its kind and what that takes.

-- Made when it is needed, once.
local rest = LANES and others()

-- Before anything is written: what is too much for the lanes is refused whole.
local refused = clock(true) or (rest and rest.lanes_left())
if refused then return refused end
local answers, count = {}, tonumber(arg())
local runs = taken
keep_rows(runs + 1, count)
taken = taken + count
for n = 1, count do
  local kind, run = arg(), ARGV[runs + n]
  local last = taken + PLAIN_ARGS
  local answer = kind == 'plain' and append_plain(run, unpack(ARGV, taken + 1, last))
  if not answer then
    rest = rest or others()
    local whole
    last, whole, answer = rest.made(kind, run)
    if not whole then answer = rest.failed(answer) end
  end
  answers[n], taken = answer, last
end
write_kept()
if rest then rest.finish() end
return answers
