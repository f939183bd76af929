-- New runs. Nobody waits for a key that another transaction is about to take: such a run is not
-- added, and tried again. The rows are there before the incarnation is locked.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
given AS MATERIALIZED (
    SELECT g.*
    FROM unnest(
        $1::integer[], $2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::uuid[], $10::text[], $11::text[], $12::bigint[],
        $13::text[], $14::bigint[], $15::text[], $16::bigint[], $17::bigint[], $18::boolean[],
        $19::integer[], $20::text[], $21::boolean[], $22::text[], $23::text[], $24::bigint[],
        $25::uuid[], $26::bigint[], $27::bigint[]
    ) AS g (
        ns, run, lane, priority, tenant, key,
        input, input_hash, parent_run, parent_path, context, created_at,
        status, due, polls, requests, consumed, open,
        deaths, summary, dead_letter, guard, guard_until, updated_at,
        owner, nonce, ttl
    )
    WHERE (g.key IS NULL
            OR pg_try_advisory_xact_lock(
                hashtextextended('provision.key:' || g.ns || ':' || g.key, 0)
            ))
        AND (g.guard IS NULL OR NOT EXISTS (
            SELECT FROM provision.heads AS h WHERE h.ns = g.ns AND h.guard = g.guard
        ))
),
added AS MATERIALIZED (
    INSERT INTO provision.runs (
        ns, run, tenant, key, input, input_hash, parent_run, parent_path, context, created_at
    )
    SELECT
        ns, run, tenant, key, input, input_hash, parent_run, parent_path, context, created_at
    FROM given
    ON CONFLICT DO NOTHING
    RETURNING ns, run
),
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
        false, g.dead_letter, g.polls, 0,
        CASE WHEN i.id IS NULL THEN g.updated_at ELSE clock.now END,
        g.deaths, g.open, g.status, g.summary
    FROM given AS g
    INNER JOIN added AS a ON a.ns = g.ns AND a.run = g.run
    CROSS JOIN clock
    LEFT JOIN alive AS i ON i.ns = g.ns AND i.id = g.owner
    RETURNING ns, run, owner, place, updated_at
)
SELECT ns, run, owner IS NOT NULL, place, updated_at FROM headed
