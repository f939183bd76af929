-- A dead incarnation is never renewed: no row is touched.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
me AS (
    INSERT INTO provision.incarnations AS i (ns, id, expires, dead_at)
    SELECT $1::integer, $2::uuid, clock.now + $3::bigint, NULL FROM clock
    ON CONFLICT (ns, id) DO UPDATE SET expires = excluded.expires WHERE i.dead_at IS NULL
    RETURNING i.id
)
SELECT
    clock.now,
    EXISTS (SELECT FROM me),
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= clock.now AND i.id <> $2
    ),
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NOT NULL AND i.dead_at <= clock.now - $4::bigint
    )
FROM clock
