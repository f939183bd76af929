SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint, h.priority, h.run
FROM provision_heads AS h INDEXED BY provision_heads_due
CROSS JOIN provision_lanes AS l ON l.lane = h.lane
WHERE h.ns = ?1 AND h.place = 1 AND h.due <= ?2 ORDER BY h.due
