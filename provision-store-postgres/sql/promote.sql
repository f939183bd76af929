-- Runs whose time has come become ready, a bounded number at once: of each lane only the first
-- ones are looked at, however many are due after an outage.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
picked AS MATERIALIZED (
    SELECT d.run
    FROM provision.lanes AS l
    CROSS JOIN LATERAL (
        SELECT h.run, h.due FROM provision.heads AS h
        WHERE h.ns = $1 AND h.lane = l.lane AND h.place = 1 AND h.due <= (SELECT now FROM clock)
        ORDER BY h.due LIMIT 1000
    ) AS d
    WHERE l.ns = $1
    ORDER BY d.due LIMIT 1000
),
held AS MATERIALIZED (
    -- `+ 0`: by key, and not in the index of delayed runs, which could be walked for each of them.
    SELECT h.run FROM provision.heads AS h
    WHERE h.ns = $1 AND h.run = ANY (ARRAY(SELECT p.run FROM picked AS p)) AND h.place + 0 = 1
        AND h.due <= (SELECT now FROM clock)
    ORDER BY h.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
)
UPDATE provision.heads AS h SET place = 2
FROM held AS x
WHERE h.ns = $1 AND h.run = x.run AND h.place + 0 = 1
