-- As `acquire`, where queues have caps: no more runs of a capped queue than there is room for, which
-- the transaction has counted under the queue's lock. Capped queues that it did not lock are passed
-- over. `acquire` has none of this, since most workers have no caps and pay for none.
WITH RECURSIVE clock AS MATERIALIZED (SELECT now FROM provision.moment),
me AS MATERIALIZED (
    INSERT INTO provision.incarnations AS i (ns, id, expires, dead_at)
    SELECT $1::integer, $2::uuid, clock.now + $3::bigint, NULL FROM clock
    ON CONFLICT (ns, id) DO UPDATE SET expires = excluded.expires WHERE i.dead_at IS NULL
    RETURNING i.id
),
code AS MATERIALIZED (
    SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint, k.room
    FROM provision.lanes AS l
    LEFT JOIN unnest($14::text[], $15::bigint[]) AS k (queue, room) ON k.queue = l.queue
    WHERE l.ns = $1 AND (k.room > 0 OR NOT (
            l.queue = ANY ($16::text[])
            OR EXISTS (
                SELECT FROM unnest($17::text[]) AS e (prefix) WHERE starts_with(l.queue, e.prefix)
            )
        ))
         AND (cardinality($5::text[]) = 0 OR l.queue = ANY ($5::text[]))
        AND (l.saga, l.version, l.fingerprint) IN (
            SELECT c.saga, c.version, c.fingerprint
            FROM unnest($6::text[], $7::bigint[], $8::text[]) AS c (saga, version, fingerprint)
        )
),
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
held AS MATERIALIZED (
    -- One look by key for each, whatever the planner believes of their number.
    SELECT x.run, x.died_at, row_number() OVER () AS place
    FROM (
        SELECT y.run, y.died_at
        FROM (SELECT p.run FROM picked AS p ORDER BY p.place) AS p
        CROSS JOIN LATERAL (
            SELECT h.run, h.died_at FROM provision.heads AS h
            WHERE h.ns = $1 AND h.run = p.run AND h.owner IS NULL AND h.place = 2
            FOR NO KEY UPDATE OF h SKIP LOCKED
        ) AS y
        WHERE (SELECT count(*) FROM me) > 0
        LIMIT $4::bigint
    ) AS x
),
granted AS (
    UPDATE provision.heads AS h
    SET epoch = h.epoch + 1, owner = $2, place = 0, poked = false, died_at = NULL,
        updated_at = clock.now,
        nonce = ($9::bigint[])[
            array_position(ARRAY(SELECT x.run FROM held AS x ORDER BY x.place), h.run)
        ]
    FROM clock
    WHERE h.ns = $1 AND h.run = ANY (ARRAY(SELECT x.run FROM held AS x)) AND h.owner IS NULL
    RETURNING h.ns, h.run, h.lane, h.priority, h.tenant_lane, h.guard, h.guard_until, h.status,
        h.due, h.polls, h.seq, h.epoch, h.owner, h.requests, h.consumed, h.open, h.deaths,
        h.summary, h.updated_at, h.nonce
)
SELECT
    g.ns, g.run, c.saga, c.version, c.fingerprint, r.tenant, c.queue, g.priority, r.key, g.guard,
    g.guard_until, r.input, r.input_hash, r.parent_run, r.parent_path, r.context, g.status, g.due,
    g.polls, g.seq, g.epoch, g.owner, g.requests, g.consumed, g.open, g.deaths, g.summary,
    r.created_at, g.updated_at, x.died_at, g.nonce, g.lane, g.tenant_lane,
    clock.now,
    EXISTS (SELECT FROM me),
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= clock.now AND i.id <> $2
    ),
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
FROM clock
LEFT JOIN (
    granted AS g
    INNER JOIN held AS x ON x.run = g.run
    INNER JOIN code AS c ON c.lane = g.lane
    INNER JOIN provision.runs AS r ON r.ns = g.ns AND r.run = g.run
) ON true
ORDER BY x.place
