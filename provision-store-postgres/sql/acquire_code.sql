-- `acquire`: the lanes of the worker's code.
code AS MATERIALIZED (
    SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint
    FROM provision.lanes AS l
    WHERE l.ns = $1 AND (cardinality($5::text[]) = 0 OR l.queue = ANY ($5::text[]))
        AND (l.saga, l.version, l.fingerprint) IN (
            SELECT c.saga, c.version, c.fingerprint
            FROM unnest($6::text[], $7::bigint[], $8::text[]) AS c (saga, version, fingerprint)
        )
),
