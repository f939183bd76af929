SELECT lane FROM provision.lanes
WHERE ns = $1 AND queue = $2 AND saga = $3 AND version = $4 AND fingerprint = $5
