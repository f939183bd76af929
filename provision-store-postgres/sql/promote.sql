-- Runs whose time has come become ready, a bounded number at once.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS MATERIALIZED (
    SELECT d.run
    FROM provision.heads AS d
    INNER JOIN provision.lanes AS l ON l.ns = $1 AND l.lane = d.lane
    WHERE d.ns = $1 AND d.place = 1 AND d.due <= (SELECT now FROM clock)
    ORDER BY d.due LIMIT 1000
    FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE provision.heads AS h SET place = 2 FROM held AS x WHERE h.ns = $1 AND h.run = x.run
