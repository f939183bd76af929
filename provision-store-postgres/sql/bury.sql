-- Marks those dead that were locked by an earlier statement of this transaction and own no run
-- any more.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment)
UPDATE provision.incarnations AS i
SET dead_at = clock.now
FROM clock
WHERE i.ns = $1 AND i.id = ANY ($2::uuid[]) AND i.dead_at IS NULL
    AND NOT EXISTS (SELECT FROM provision.heads AS h WHERE h.ns = $1 AND h.owner = i.id)
RETURNING i.id
