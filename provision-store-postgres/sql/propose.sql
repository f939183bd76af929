-- Due runs, and the earliest due time: what a queue puts forward. It decides nothing.
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
)
SELECT
    ARRAY(
        SELECT f.run FROM found AS f ORDER BY f.priority DESC, f.late, f.due, f.run
        LIMIT $3::bigint
    ),
    (
        SELECT min(x.due) - min(c.now)
        FROM lane AS l
        CROSS JOIN LATERAL (
            SELECT h.due FROM provision.heads AS h
            WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 ORDER BY h.due LIMIT 1
        ) AS x
        CROSS JOIN clock AS c
    )
