-- One claim at a time for each of these queues, until the transaction ends. Nobody waits: those that
-- another claim has are not answered. Two queues of one number keep each other out, no more.
SELECT q.queue
FROM unnest($2::text[]) AS q (queue)
WHERE pg_try_advisory_xact_lock(hashtextextended(q.queue, $1::bigint))
