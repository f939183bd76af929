-- What a worker holds, who else is alive, and when something in its lanes is due next.
SELECT
    m.now,
    ARRAY(
        SELECT h.run FROM provision.heads AS h WHERE h.ns = $1 AND h.owner = $2 ORDER BY h.run
    ),
    ARRAY(
        SELECT h.epoch FROM provision.heads AS h WHERE h.ns = $1 AND h.owner = $2 ORDER BY h.run
    ),
    ARRAY(
        SELECT i.id FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.id <> $2 ORDER BY i.id
    ),
    (
        SELECT min(x.due)
        FROM provision.lanes AS l
        CROSS JOIN LATERAL (
            (
                SELECT h.due FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 2
                ORDER BY h.priority DESC, h.tenant_lane, h.due LIMIT 1
            )
            UNION ALL
            (
                SELECT h.due FROM provision.heads AS h
                WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 ORDER BY h.due LIMIT 1
            )
        ) AS x
        WHERE l.ns = $1 AND (cardinality($3::text[]) = 0 OR l.queue = ANY ($3::text[]))
            AND ($4::boolean OR (l.saga, l.version, l.fingerprint) IN (
                SELECT c.saga, c.version, c.fingerprint
                FROM unnest($5::text[], $6::bigint[], $7::text[])
                    AS c (saga, version, fingerprint)
            ))
    ),
    -- The server's clock was set back: it stands still until the difference is entered.
    (
        SELECT c.shift_ms + floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint < c.kept_ms
        FROM provision.clock AS c
    )
FROM provision.moment AS m
