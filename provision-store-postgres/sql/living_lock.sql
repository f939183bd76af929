-- Those of some incarnations that are not dead, and the moment.
SELECT i.id, m.now
FROM provision.incarnations AS i
CROSS JOIN provision.moment AS m
WHERE i.ns = $1 AND i.id = ANY ($2::uuid[]) AND i.dead_at IS NULL
ORDER BY i.id
FOR NO KEY UPDATE OF i
