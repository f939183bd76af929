-- Queues of a worker's sagas in which a run is due, with the highest priority of what is ready there.
-- Where runs have yet to be put among the ready ones, the queue comes first, so that they are.
SELECT l.queue, max(coalesce(p.priority, 2147483647))
FROM provision.lanes AS l
CROSS JOIN provision.moment AS m
LEFT JOIN LATERAL (
    SELECT h.priority FROM provision.heads AS h
    WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 2
    ORDER BY h.priority DESC LIMIT 1
) AS p ON true
WHERE l.ns = $1 AND (cardinality($2::text[]) = 0 OR l.queue = ANY ($2::text[]))
    AND (l.saga, l.version, l.fingerprint) IN (
        SELECT c.saga, c.version, c.fingerprint
        FROM unnest($3::text[], $4::bigint[], $5::text[]) AS c (saga, version, fingerprint)
    )
    AND (
        p.priority IS NOT NULL
        OR EXISTS (
            SELECT FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 AND h.due <= m.now
        )
    )
GROUP BY l.queue
