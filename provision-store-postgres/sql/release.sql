WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS (
    SELECT g.*
    FROM unnest(
        $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[]
    ) AS g (run, owner, epoch, nonce, polls, due, seen)
    INNER JOIN provision.heads AS h ON h.ns = $1 AND h.run = g.run
    WHERE h.owner = g.owner AND h.epoch = g.epoch AND h.nonce = g.nonce
    ORDER BY g.run
    FOR NO KEY UPDATE OF h
)
UPDATE provision.heads AS h
SET owner = NULL, nonce = 0, poked = false, polls = x.polls, updated_at = clock.now,
    due = CASE WHEN h.requests > greatest(h.consumed, x.seen)
            OR (h.poked AND h.status IN ('Running', 'Waiting', 'Unwinding'))
        THEN clock.now ELSE x.due END,
    place = CASE WHEN h.requests > greatest(h.consumed, x.seen)
            OR (h.poked AND h.status IN ('Running', 'Waiting', 'Unwinding')) THEN 2
        WHEN x.due = 9223372036854775807 THEN 0
        WHEN x.due <= clock.now THEN 2
        ELSE 1 END
FROM held AS x, clock
WHERE h.ns = $1 AND h.run = x.run AND h.owner = x.owner AND h.epoch = x.epoch
    AND h.nonce = x.nonce
RETURNING h.place
