headed AS (
    INSERT INTO provision.heads (
        ns, lane, run, priority, tenant_lane, guard, guard_until, owner, epoch, nonce, requests,
        consumed, due, place, poked, dead_letter, polls, seq, updated_at, deaths, open, status,
        summary
    )
    SELECT
        g.ns, g.lane, g.run, g.priority, coalesce(g.tenant, ''), g.guard, g.guard_until, i.id,
        CASE WHEN i.id IS NULL THEN 0 ELSE 1 END, CASE WHEN i.id IS NULL THEN 0 ELSE g.nonce END,
        g.requests, g.consumed, g.due,
        CASE WHEN i.id IS NOT NULL OR g.due = 9223372036854775807 THEN 0
            WHEN g.due <= clock.now THEN 2 ELSE 1 END,
        false, g.dead_letter, g.polls, CASE WHEN i.id IS NULL OR g.first IS NULL THEN 0 ELSE 1 END,
        CASE WHEN i.id IS NULL THEN g.updated_at ELSE clock.now END,
        g.deaths, g.open OR (i.id IS NOT NULL AND g.first IS NOT NULL), g.status,
        CASE WHEN i.id IS NULL THEN g.summary ELSE coalesce(g.first_summary, g.summary) END
    FROM given AS g
    INNER JOIN added AS a ON a.ns = g.ns AND a.run = g.run
    CROSS JOIN clock
    LEFT JOIN alive AS i ON i.ns = g.ns AND i.id = g.owner
    RETURNING ns, run, owner, place, updated_at
)
