-- Waits a moment for whoever has this queue, and no longer: then it fails. The time is set by the
-- statement itself, and for it alone.
WITH short AS MATERIALIZED (SELECT set_config('lock_timeout', '100ms', true) AS wait)
SELECT pg_advisory_xact_lock(hashtextextended($2::text, $1::bigint))
FROM short
WHERE short.wait IS NOT NULL
