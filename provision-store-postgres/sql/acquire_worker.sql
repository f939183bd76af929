-- `acquire`, first part: the clock, and the worker, renewed.
WITH RECURSIVE clock AS MATERIALIZED (SELECT now FROM provision.moment),
me AS MATERIALIZED (
    INSERT INTO provision.incarnations AS i (ns, id, expires, dead_at)
    SELECT $1::integer, $2::uuid, clock.now + $3::bigint, NULL FROM clock
    ON CONFLICT (ns, id) DO UPDATE SET expires = excluded.expires WHERE i.dead_at IS NULL
    RETURNING i.id
),
