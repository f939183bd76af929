WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
given AS (
    SELECT DISTINCT ON (g.run) g.run, g.due
    FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS g (run, due, n)
    ORDER BY g.run, g.n DESC
),
held AS (
    SELECT g.run, g.due
    FROM given AS g
    INNER JOIN provision.heads AS h ON h.ns = $1 AND h.run = g.run
    WHERE h.owner IS NULL
    ORDER BY g.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
)
UPDATE provision.heads AS h
SET due = x.due,
    place = CASE WHEN x.due = 9223372036854775807 THEN 0 WHEN x.due <= clock.now THEN 2 ELSE 1 END
FROM held AS x, clock
WHERE h.ns = $1 AND h.run = x.run AND h.owner IS NULL
RETURNING h.place
