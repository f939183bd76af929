-- Due runs, and how long until there may be more: what a queue puts forward. It decides nothing.
-- L2: what a dead worker holds is due when its lease is over: whoever leases buries it then.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
lane AS MATERIALIZED (
    SELECT l.lane FROM provision.lanes AS l
    WHERE l.ns = $1 AND (cardinality($2::text[]) = 0 OR l.queue = ANY ($2::text[]))
        AND l.queue <> ALL ($4::text[])
),
found AS (
    SELECT x.run, x.priority, x.late, x.due
    FROM lane AS l
    CROSS JOIN clock AS c
    CROSS JOIN LATERAL (
        (
            SELECT h.run, h.priority, h.due, 0 AS late FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 2
            ORDER BY h.priority DESC, h.tenant_lane, h.due, h.run LIMIT $3::bigint
        )
        UNION ALL
        (
            SELECT h.run, h.priority, h.due, 1 FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 AND h.due <= c.now
            ORDER BY h.due LIMIT $3::bigint
        )
    ) AS x
    UNION ALL
    (
        SELECT h.run, h.priority, 2, i.expires
        FROM provision.incarnations AS i
        CROSS JOIN clock AS c
        INNER JOIN provision.heads AS h ON h.ns = i.ns AND h.owner = i.id
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= c.now
            AND h.lane = ANY (ARRAY(SELECT l.lane FROM lane AS l))
        LIMIT $3::bigint
    )
)
SELECT
    ARRAY(
        SELECT f.run FROM found AS f ORDER BY f.priority DESC, f.late, f.due, f.run
        LIMIT $3::bigint
    ),
    least(
        (
            SELECT min(x.due) FROM lane AS l
            CROSS JOIN LATERAL (
                SELECT h.due FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 ORDER BY h.due LIMIT 1
            ) AS x
        ),
        (
            SELECT min(i.expires) FROM provision.incarnations AS i
            WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires > m.now
        )
    ) - m.now
FROM clock AS m
