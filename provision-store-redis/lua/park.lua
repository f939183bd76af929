-- S3: a run that its new owner cannot read is given back and parked, so that it holds up nobody
-- else's work and is found among the dead letters.

local refused = clock(true)
if refused then return refused end
local run, worker = arg(), arg()
local row = read_row(run)
if not row or row[OWNER] ~= worker then return 0 end
row[STATUS], row[DUE], row[LETTER] = 'Parked', NEVER, '1'
call('ZADD', LETTERS, 0, run)
let_go(run, row)
write_row(run, row)
return 1
