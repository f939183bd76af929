-- As `list`, where nothing but a version of a saga is asked for.
SELECT x.* FROM provision.run_rows AS x
WHERE x.ns = $1 AND x.run = ANY (ARRAY(
    SELECT h.run
    FROM provision.lanes AS l
    CROSS JOIN LATERAL (
        SELECT y.run FROM provision.heads AS y
        WHERE y.ns = $1 AND y.lane = l.lane AND y.run BETWEEN $2 AND $3
        ORDER BY y.lane DESC, y.run DESC LIMIT $6
    ) AS h
    WHERE l.ns = $1 AND l.saga = $4 AND l.version = $5
    ORDER BY h.run DESC LIMIT $6
))
ORDER BY x.run DESC
