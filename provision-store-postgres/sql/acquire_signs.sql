-- `acquire`: whether dead workers are to be forgotten, and whether delayed runs are due.
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NOT NULL AND i.dead_at <= clock.now - $13::bigint
    ),
    EXISTS (
        SELECT FROM code AS l
        CROSS JOIN LATERAL (
            SELECT FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 AND h.due <= clock.now
            LIMIT 1
        ) AS h
    )
