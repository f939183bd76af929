-- One claim at a time for each of these queues, until the transaction ends. In one order, so that no
-- two of them wait for each other; two queues of one number only wait for each other.
SELECT pg_advisory_xact_lock(k.number)
FROM (
    SELECT DISTINCT hashtextextended(q.queue, $1::bigint) AS number
    FROM unnest($2::text[]) AS q (queue)
    ORDER BY number
) AS k
