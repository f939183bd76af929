SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint, h.priority, h.run
FROM provision_incarnations AS i INDEXED BY provision_incarnations_alive
CROSS JOIN provision_heads AS h INDEXED BY provision_heads_owner
    ON h.ns = i.ns AND h.owner = i.id
CROSS JOIN provision_lanes AS l ON l.lane = h.lane
WHERE i.ns = ?1 AND i.dead_at IS NULL AND (i.boot <> ?2 OR i.expires <= ?3)
