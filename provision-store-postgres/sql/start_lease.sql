alive AS MATERIALIZED (
    INSERT INTO provision.incarnations AS i (ns, id, expires, dead_at)
    SELECT g.ns, g.owner, clock.now + max(g.ttl), NULL
    FROM given AS g
    INNER JOIN added AS a ON a.ns = g.ns AND a.run = g.run
    CROSS JOIN clock
    WHERE g.owner IS NOT NULL
    GROUP BY g.ns, g.owner, clock.now
    ORDER BY g.ns, g.owner
    ON CONFLICT (ns, id) DO UPDATE SET expires = greatest(i.expires, excluded.expires)
    WHERE i.dead_at IS NULL
    RETURNING i.ns, i.id
),
