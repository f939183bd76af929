-- Marks the dead first, conditional on their expiry and locking their rows; one whose row is held
-- is about to be renewed, or buried by somebody else.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS MATERIALIZED (
    SELECT e.id FROM provision.incarnations AS e
    WHERE e.ns = $1 AND e.dead_at IS NULL AND e.expires <= (SELECT now FROM clock)
        AND e.id <> $2
    ORDER BY e.id
    FOR NO KEY UPDATE OF e SKIP LOCKED
)
UPDATE provision.incarnations AS i
SET dead_at = clock.now
FROM clock, held AS x
WHERE i.ns = $1 AND i.id = x.id AND i.dead_at IS NULL AND i.expires <= clock.now
RETURNING i.id, i.expires
