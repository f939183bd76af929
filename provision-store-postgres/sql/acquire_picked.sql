-- `acquire`: higher priority first, tenants in turn, oldest first.
picked AS MATERIALIZED (
    SELECT
        s.lane, s.priority, s.tenant, c.run,
        row_number() OVER (ORDER BY s.priority DESC, c.turn, c.oldest, c.run) AS place
    FROM seats AS s
    CROSS JOIN LATERAL (
        SELECT
            d.run, row_number() OVER (ORDER BY d.due, d.run) AS turn,
            first_value(d.due) OVER (ORDER BY d.due, d.run) AS oldest
        FROM (
            SELECT h.run, h.due FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = s.lane AND h.place = 2 AND h.priority = s.priority
                AND h.tenant_lane = s.tenant
            ORDER BY h.due, h.run LIMIT 2 * $4::bigint + 8
        ) AS d
    ) AS c
    ORDER BY place LIMIT 2048
),
