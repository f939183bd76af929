-- The lanes that have a ready run, each by one seek.
WITH RECURSIVE present (lane) AS (
    SELECT min(lane) FROM provision_heads INDEXED BY provision_heads_ready
    WHERE ns = ?1 AND place = 2
    UNION ALL
    SELECT (
        SELECT min(h.lane) FROM provision_heads AS h INDEXED BY provision_heads_ready
        WHERE h.ns = ?1 AND h.place = 2 AND h.lane > present.lane
    )
    FROM present WHERE present.lane IS NOT NULL
)
SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint
FROM present
CROSS JOIN provision_lanes AS l ON l.lane = present.lane
