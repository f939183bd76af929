-- Appends and submissions: those of many callers come together, and none is the trouble of another.
--
-- Arguments: how many, the run of each, and of each its kind and what that takes.

-- Makes one of them, whose arguments are next; answers, and tells the number of its last argument.
local function made(kind, run)
  if kind == 'run' then
    local last = taken + STARTED_ARGS
    return last, pcall(start)
  elseif kind == 'request' or kind == 'reopen' then
    return taken + 1, pcall(request, kind, run)
  end
  local is_plain = kind == 'plain'
  local answer = is_plain and append_plain(run, unpack(ARGV, taken + 1, taken + PLAIN_ARGS))
  if answer then return taken + PLAIN_ARGS, true, answer end
  local a = read_append(run, is_plain)
  return taken + a.starts * STARTED_ARGS, pcall(append, a)
end

-- Before anything is written: what is too much for the lanes is refused whole.
local refused = clock(true) or (LANES and lanes_left())
if refused then return refused end
local answers, count = {}, tonumber(arg())
local runs = taken
keep_rows(runs + 1, count)
taken = taken + count
for n = 1, count do
  local last, whole, answer = made(arg(), ARGV[runs + n])
  answers[n], taken = whole and answer or failed(answer), last
end
write_kept()
sweep_counted()
tell()
return answers
