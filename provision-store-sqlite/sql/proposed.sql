SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint
FROM provision_heads AS h
CROSS JOIN provision_lanes AS l ON l.lane = h.lane
WHERE h.ns = ?1 AND h.run = ?2 AND h.owner IS NULL AND h.due <= ?3
