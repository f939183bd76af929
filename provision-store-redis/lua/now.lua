-- The store's clock. Nothing is written.

local refused = clock(false)
if refused then return refused end
return MOMENT
