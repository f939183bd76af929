WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS MATERIALIZED (
    SELECT d.ctid FROM provision.ledger AS d
    WHERE d.ns = $1 AND d.watch_at <= (SELECT now FROM clock)
    ORDER BY d.watch_at LIMIT $3
    FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE provision.ledger AS l
SET watch_at = clock.now + $2::bigint
FROM clock
WHERE l.ctid = ANY (ARRAY(SELECT x.ctid FROM held AS x)) AND l.watch_at <= clock.now
RETURNING l.*
