SELECT pg_advisory_xact_lock(
    hashtextextended('provision.bucket:' || $1::integer || ':' || $2::text, 0)
)
