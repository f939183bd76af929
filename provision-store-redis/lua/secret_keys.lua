-- Lists keys of sealed values after one of them, in their order. Nothing is written.

local refused = clock(false)
if refused then return refused end
local from, count = arg(), arg()
return call('ZRANGEBYLEX', SECRET_ORDER, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, count)
