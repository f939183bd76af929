SELECT run, key, pruned_saga, pruned_version, input_hash, pruned_status, created_at, ended_at,
    pruned_at
FROM provision.runs
WHERE ns = $1 AND ended_at IS NOT NULL AND key >= $2 AND key < $3
ORDER BY key DESC LIMIT 1
