SELECT 1 FROM provision.lanes WHERE ns = $1 AND saga = $2 AND version = $3 LIMIT 1
