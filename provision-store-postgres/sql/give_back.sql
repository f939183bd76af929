WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS (
    SELECT g.*
    FROM unnest($3::uuid[], $4::bigint[]) AS g (run, epoch)
    INNER JOIN provision.heads AS h ON h.ns = $1 AND h.run = g.run
    WHERE h.owner = $2 AND h.epoch = g.epoch
    ORDER BY g.run
    FOR NO KEY UPDATE OF h
)
UPDATE provision.heads AS h
SET owner = NULL, nonce = 0, poked = false, place = 2, due = clock.now, updated_at = clock.now
FROM held AS x, clock
WHERE h.ns = $1 AND h.run = x.run AND h.owner = $2 AND h.epoch = x.epoch
RETURNING h.place
