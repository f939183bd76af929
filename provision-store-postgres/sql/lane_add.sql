-- Nobody waits for a lane that an open transaction has made: it is not added, and tried again.
INSERT INTO provision.lanes (ns, queue, saga, version, fingerprint)
SELECT $1::integer, $2::text, $3::text, $4::bigint, $5::text
WHERE pg_try_advisory_xact_lock(
    hashtextextended(concat_ws(chr(1), 'provision.lane', $1, $2, $3, $4, $5), 0)
)
ON CONFLICT DO NOTHING
