-- What is left of a run by its start key, which comes first, or by its id.
SELECT run, key, pruned_saga, pruned_version, input_hash, pruned_status, created_at, ended_at,
    pruned_at
FROM provision.runs
WHERE ns = $1 AND ended_at IS NOT NULL AND run = coalesce(
    (SELECT r.run FROM provision.runs AS r WHERE r.ns = $1 AND r.key = $2), $3
)
