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
        $25::uuid[], $26::bigint[], $27::bigint[], $28::text[], $29::bigint[], $30::text[]
    ) AS g (
        ns, run, lane, priority, tenant, key,
        input, input_hash, parent_run, parent_path, context, created_at,
        status, due, polls, requests, consumed, open,
        deaths, summary, dead_letter, guard, guard_until, updated_at,
        owner, nonce, ttl, first, first_at, first_summary
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
