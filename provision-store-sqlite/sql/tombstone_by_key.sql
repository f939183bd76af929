SELECT run, key, pruned_saga, pruned_version, input_hash, pruned_status, created_at, ended_at,
    pruned_at
FROM provision_runs
WHERE ns = ?1 AND key = ?2 AND ended_at IS NOT NULL
