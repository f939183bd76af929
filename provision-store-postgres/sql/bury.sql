WITH clock AS MATERIALIZED (SELECT now FROM provision.moment)
UPDATE provision.incarnations AS i
SET dead_at = clock.now
FROM clock
WHERE i.ns = $1 AND i.id = ANY ($2::uuid[]) AND i.dead_at IS NULL
RETURNING i.id, i.dead_at
