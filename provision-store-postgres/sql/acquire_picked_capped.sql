-- `acquire_capped`: the same order, and no more runs of a queue than there is room for.
picked AS MATERIALIZED (
    SELECT p.lane, p.priority, p.tenant, p.run, p.place
    FROM (
    SELECT
        s.lane, s.priority, s.tenant, c.run, k.room,
        row_number() OVER (ORDER BY s.priority DESC, c.turn, c.oldest, c.run) AS place,
        row_number() OVER (
            PARTITION BY k.queue ORDER BY s.priority DESC, c.turn, c.oldest, c.run
        ) AS nth
    FROM seats AS s
    INNER JOIN code AS k ON k.lane = s.lane
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
    ) AS p
    WHERE p.room IS NULL OR p.nth <= p.room
    ORDER BY p.place LIMIT 2048
),
