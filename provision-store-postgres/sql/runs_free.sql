-- Frees the runs of incarnations that an earlier statement of this transaction has locked. One
-- that somebody else holds is passed over: it keeps none of the others waiting.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
dead AS MATERIALIZED (
    SELECT g.id, g.died_at FROM unnest($2::uuid[], $3::bigint[]) AS g (id, died_at)
),
held AS MATERIALIZED (
    SELECT h.run FROM provision.heads AS h
    WHERE h.ns = $1 AND h.owner = ANY ($2::uuid[])
    ORDER BY h.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
)
UPDATE provision.heads AS h
SET owner = NULL, nonce = 0, place = 2, due = clock.now, updated_at = clock.now,
    died_at = (SELECT d.died_at FROM dead AS d WHERE d.id = h.owner LIMIT 1),
    deaths = h.deaths + CASE
        WHEN h.open AND EXISTS (
            SELECT FROM dead AS d WHERE d.id = h.owner AND d.died_at IS NOT NULL
        ) THEN 1 ELSE 0 END
FROM clock
WHERE h.ns = $1 AND h.run = ANY (ARRAY(SELECT x.run FROM held AS x))
    AND h.owner = ANY ($2::uuid[])
