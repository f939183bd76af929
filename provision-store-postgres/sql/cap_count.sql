-- Runs under lease of each of these queues, as of this statement: exact where their locks are held.
-- One look at the lane of each lease, whatever the planner believes of the number of queues.
SELECT l.queue, count(*)
FROM provision.heads AS h
CROSS JOIN LATERAL (SELECT l.queue FROM provision.lanes AS l WHERE l.lane = h.lane LIMIT 1) AS l
WHERE h.ns = $1 AND h.owner IS NOT NULL AND l.queue = ANY ($2::text[])
GROUP BY l.queue
