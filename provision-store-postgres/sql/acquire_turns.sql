-- `acquire`: whose turn it is. Every look is a seek in an index of ready runs only, so that a claim
-- costs the same however many runs are finished, delayed, or belong to sagas that this worker does
-- not know. `bands` are the priorities of a lane, `seats` the tenants of a band from the one whose
-- turn it is; lap 1 is what comes after the end of the alphabet.
bands (lane, priority, depth) AS (
    SELECT c.lane, p.priority, 1
    FROM code AS c
    CROSS JOIN LATERAL (
        SELECT h.priority FROM provision.heads AS h
        WHERE h.ns = $1 AND h.lane = c.lane AND h.place = 2
        ORDER BY h.priority DESC LIMIT 1
    ) AS p
    UNION ALL
    SELECT b.lane, p.priority, b.depth + 1
    FROM bands AS b
    CROSS JOIN LATERAL (
        SELECT h.priority FROM provision.heads AS h
        WHERE h.ns = $1 AND h.lane = b.lane AND h.place = 2 AND h.priority < b.priority
        ORDER BY h.priority DESC LIMIT 1
    ) AS p
    WHERE b.depth < 32
),
begun AS MATERIALIZED (
    SELECT b.lane, b.priority, t.last
    FROM bands AS b
    LEFT JOIN unnest($10::integer[], $11::integer[], $12::text[]) AS t (lane, priority, last)
        ON t.lane = b.lane AND t.priority = b.priority
),
seats (lane, priority, last, tenant, lap, n) AS (
    SELECT b.lane, b.priority, b.last, x.tenant, x.lap, 1
    FROM begun AS b
    CROSS JOIN LATERAL (
        SELECT y.tenant, y.lap FROM (
            (
                SELECT h.tenant_lane AS tenant, 0 AS lap FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = b.lane AND h.place = 2 AND h.priority = b.priority
                    AND h.tenant_lane > b.last
                ORDER BY h.tenant_lane LIMIT 1
            )
            UNION ALL
            (
                SELECT h.tenant_lane, 1 FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = b.lane AND h.place = 2 AND h.priority = b.priority
                ORDER BY h.tenant_lane LIMIT 1
            )
        ) AS y
        ORDER BY y.lap LIMIT 1
    ) AS x
    UNION ALL
    SELECT s.lane, s.priority, s.last, x.tenant, x.lap, s.n + 1
    FROM seats AS s
    CROSS JOIN LATERAL (
        SELECT y.tenant, y.lap FROM (
            (
                SELECT h.tenant_lane AS tenant, s.lap AS lap FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = s.lane AND h.place = 2 AND h.priority = s.priority
                    AND h.tenant_lane > s.tenant
                    AND (s.lap = 0 OR s.last IS NULL OR h.tenant_lane <= s.last)
                ORDER BY h.tenant_lane LIMIT 1
            )
            UNION ALL
            (
                SELECT h.tenant_lane, 1 FROM provision.heads AS h
                WHERE s.lap = 0 AND h.ns = $1 AND h.lane = s.lane AND h.place = 2
                    AND h.priority = s.priority AND h.tenant_lane <= s.last
                ORDER BY h.tenant_lane LIMIT 1
            )
        ) AS y
        ORDER BY y.lap LIMIT 1
    ) AS x
    WHERE s.n < least($4::bigint, 256)
),
