-- S3: a run that its new owner cannot read is given back and due no more, so that it holds up
-- nobody else's work.

local refused = clock(true)
if refused then return refused end
local run, worker = arg(), arg()
local row = read_row(run)
if not row or row[OWNER] ~= worker then return 0 end
row[DUE] = NEVER
let_go(run, row)
write_row(run, row)
return 1
