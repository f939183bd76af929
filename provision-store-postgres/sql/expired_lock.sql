-- Incarnations whose lease is over, and when it was. One whose row is held is about to be renewed,
-- or buried by somebody else.
SELECT i.id, i.expires FROM provision.incarnations AS i
WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= (SELECT now FROM provision.moment)
    AND i.id <> $2
ORDER BY i.id
FOR NO KEY UPDATE OF i SKIP LOCKED
