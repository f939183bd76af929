SELECT run, key, pruned_saga, pruned_version, input_hash, pruned_status, created_at, ended_at,
    pruned_at
FROM provision_runs INDEXED BY provision_runs_ended
WHERE ns = ?1 AND ended_at IS NOT NULL AND substr(key, 1, length(?2)) = ?2
ORDER BY ended_at DESC LIMIT 1
