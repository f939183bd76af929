-- As `acquire`, of the runs that a queue proposed.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
me AS MATERIALIZED (
    INSERT INTO provision.incarnations AS i (ns, id, expires, dead_at)
    SELECT $1::integer, $2::uuid, clock.now + $3::bigint, NULL FROM clock
    ON CONFLICT (ns, id) DO UPDATE SET expires = excluded.expires WHERE i.dead_at IS NULL
    RETURNING i.id
),
code AS MATERIALIZED (
    SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint, k.room
    FROM provision.lanes AS l
    LEFT JOIN unnest($12::text[], $13::bigint[]) AS k (queue, room) ON k.queue = l.queue
    WHERE l.ns = $1 AND (k.room > 0 OR NOT (
            l.queue = ANY ($14::text[])
            OR EXISTS (
                SELECT FROM unnest($15::text[]) AS e (prefix) WHERE starts_with(l.queue, e.prefix)
            )
        ))
         AND (cardinality($5::text[]) = 0 OR l.queue = ANY ($5::text[]))
        AND (l.saga, l.version, l.fingerprint) IN (
            SELECT c.saga, c.version, c.fingerprint
            FROM unnest($6::text[], $7::bigint[], $8::text[]) AS c (saga, version, fingerprint)
        )
),
picked AS MATERIALIZED (
    SELECT p.run, p.place
    FROM (
        SELECT
            p.run, p.place, c.room, row_number() OVER (PARTITION BY c.queue ORDER BY p.place) AS nth
        FROM (
            SELECT p.run, min(p.n) AS place
            FROM unnest($10::uuid[]) WITH ORDINALITY AS p (run, n)
            GROUP BY p.run
        ) AS p
        INNER JOIN provision.heads AS h ON h.ns = $1 AND h.run = p.run
        INNER JOIN code AS c ON c.lane = h.lane
        WHERE h.owner IS NULL AND h.place <> 0 AND h.due <= (SELECT now FROM clock)
    ) AS p
    WHERE p.room IS NULL OR p.nth <= p.room
),
held AS MATERIALIZED (
    -- One look by key for each, whatever the planner believes of their number.
    SELECT x.run, x.died_at, row_number() OVER () AS place
    FROM (
        SELECT y.run, y.died_at
        FROM (SELECT p.run FROM picked AS p ORDER BY p.place) AS p
        CROSS JOIN LATERAL (
            SELECT h.run, h.died_at FROM provision.heads AS h
            WHERE h.ns = $1 AND h.run = p.run AND h.owner IS NULL AND h.place <> 0
            AND h.due <= (SELECT now FROM clock) AND h.lane IN (SELECT lane FROM code)
            FOR NO KEY UPDATE OF h SKIP LOCKED
        ) AS y
        WHERE (SELECT count(*) FROM me) > 0
        LIMIT $4::bigint
    ) AS x
),
