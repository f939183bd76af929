SELECT l.queue, count(*)
FROM provision_heads AS h INDEXED BY provision_heads_owner
INNER JOIN provision_lanes AS l ON l.lane = h.lane
WHERE h.ns = ?1 AND h.owner IS NOT NULL AND l.ns = ?1
GROUP BY l.queue
