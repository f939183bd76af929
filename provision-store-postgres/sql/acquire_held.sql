-- `acquire`: what was picked and nobody else holds.
held AS MATERIALIZED (
    -- One look by key for each, whatever the planner believes of their number: `+ 0`, or it could
    -- look in the index of ready runs, which it takes for small and would walk for each of them.
    SELECT x.run, x.died_at, row_number() OVER () AS place
    FROM (
        SELECT y.run, y.died_at
        FROM (SELECT p.run FROM picked AS p ORDER BY p.place) AS p
        CROSS JOIN LATERAL (
            SELECT h.run, h.died_at FROM provision.heads AS h
            WHERE h.ns = $1 AND h.run = p.run AND h.owner IS NULL AND h.place + 0 = 2
            FOR NO KEY UPDATE OF h SKIP LOCKED
        ) AS y
        WHERE (SELECT count(*) FROM me) > 0
        LIMIT $4::bigint
    ) AS x
),
