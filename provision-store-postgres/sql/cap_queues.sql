-- Queues of a worker's sagas in which a run is due: those that have a cap are locked before a claim.
SELECT DISTINCT l.queue
FROM provision.lanes AS l
CROSS JOIN provision.moment AS m
WHERE l.ns = $1 AND (cardinality($2::text[]) = 0 OR l.queue = ANY ($2::text[]))
    AND (l.saga, l.version, l.fingerprint) IN (
        SELECT c.saga, c.version, c.fingerprint
        FROM unnest($3::text[], $4::bigint[], $5::text[]) AS c (saga, version, fingerprint)
    )
    AND EXISTS (
        SELECT FROM provision.heads AS h
        WHERE h.ns = $1 AND h.lane = l.lane
            AND (h.place = 2 OR (h.place = 1 AND h.due <= m.now))
    )
