-- Runs under lease of each of these queues, as of this statement: their locks are held.
SELECT l.queue, count(*)
FROM provision.heads AS h
INNER JOIN provision.lanes AS l ON l.ns = h.ns AND l.lane = h.lane
WHERE h.ns = $1 AND h.owner IS NOT NULL AND l.queue = ANY ($2::text[])
GROUP BY l.queue
