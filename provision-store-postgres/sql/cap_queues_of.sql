-- Queues of these runs that nobody holds, with the highest of their priorities. One look by key for
-- each, whatever the planner believes of their number.
SELECT l.queue, max(h.priority)
FROM unnest($2::uuid[]) AS p (run)
CROSS JOIN LATERAL (
    SELECT h.lane, h.priority FROM provision.heads AS h
    WHERE h.ns = $1 AND h.run = p.run AND h.owner IS NULL
    LIMIT 1
) AS h
INNER JOIN provision.lanes AS l ON l.lane = h.lane
GROUP BY l.queue
