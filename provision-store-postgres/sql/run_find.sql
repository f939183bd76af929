-- A run by its start key, which comes first, or by its id.
SELECT * FROM provision.run_rows
WHERE ns = $1 AND run = coalesce(
    (SELECT r.run FROM provision.runs AS r WHERE r.ns = $1 AND r.key = $2), $3
)
