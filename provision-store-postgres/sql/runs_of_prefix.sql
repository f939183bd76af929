SELECT run FROM provision.runs
WHERE ns = $1 AND key >= $2 AND key < $3 AND ended_at IS NULL LIMIT $4
