-- The end of the function `others`, which has all that plain appends do without: scripts that bring
-- nothing else do not pay for making its functions.

-- Makes what is no plain append, or one that is not as it should be; its arguments are next. Tells
-- the number of its last argument, whether it was made, and the answer.
local function made(kind, run)
  if kind == 'run' then
    local last = taken + STARTED_ARGS
    return last, pcall(start)
  elseif kind == 'request' or kind == 'reopen' then
    return taken + 1, pcall(request, kind, run)
  end
  local a = read_append(run, kind == 'plain')
  return taken + a.starts * STARTED_ARGS, pcall(append, a)
end

-- What is left to do after everything was written: nothing of it may fail an answer.
local function finish()
  pcall(sweep_counted)
  tell()
end

return { made = made, finish = finish, failed = failed, lanes_left = lanes_left }
end

