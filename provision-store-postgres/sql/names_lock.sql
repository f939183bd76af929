-- Nobody waits for a name: who does not get the lock of every one of them tries again later.
SELECT coalesce(bool_and(pg_try_advisory_xact_lock(hashtextextended('provision.' || name, 0))), true)
FROM unnest($1::text[]) AS g (name)
