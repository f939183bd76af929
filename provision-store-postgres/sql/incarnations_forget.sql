DELETE FROM provision.incarnations
WHERE ns = $1 AND id IN (
    SELECT i.id FROM provision.incarnations AS i, provision.moment AS m
    WHERE i.ns = $1 AND i.dead_at IS NOT NULL AND i.dead_at <= m.now - $2::bigint
    ORDER BY i.dead_at LIMIT $3
)
