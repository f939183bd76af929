-- Any number of requests, also several to one run: numbered without gaps in the order given.
-- A leased run is not moved: its release compares `consumed` with `requests`.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
given AS MATERIALIZED (
    SELECT g.*, row_number() OVER (PARTITION BY g.ns, g.run ORDER BY g.n) AS nth
    FROM unnest($1::integer[], $2::uuid[], $3::text[]) WITH ORDINALITY AS g (ns, run, body, n)
),
asked AS MATERIALIZED (SELECT ns, run, max(nth) AS count FROM given GROUP BY ns, run),
held AS (
    SELECT a.* FROM asked AS a
    INNER JOIN provision.heads AS h ON h.ns = a.ns AND h.run = a.run
    ORDER BY a.ns, a.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
),
counted AS (
    UPDATE provision.heads AS h
    SET requests = h.requests + x.count, updated_at = clock.now,
        due = CASE WHEN h.owner IS NULL THEN clock.now ELSE h.due END,
        place = CASE WHEN h.owner IS NULL THEN 2 ELSE 0 END
    FROM held AS x, clock
    WHERE h.ns = x.ns AND h.run = x.run
    RETURNING h.ns, h.run, h.requests - x.count AS before, h.updated_at
),
stored AS (
    INSERT INTO provision.requests (ns, run, number, at, body)
    SELECT g.ns, g.run, c.before + g.nth, c.updated_at, g.body
    FROM given AS g
    INNER JOIN counted AS c ON c.ns = g.ns AND c.run = g.run
)
SELECT g.n, c.before + g.nth
FROM given AS g
INNER JOIN counted AS c ON c.ns = g.ns AND c.run = g.run
