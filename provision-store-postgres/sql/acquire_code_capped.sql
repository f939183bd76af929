-- `acquire_capped`: the lanes of the worker's code in which there is room. Capped queues that the
-- transaction did not lock are passed over.
code AS MATERIALIZED (
    SELECT l.lane, l.queue, l.saga, l.version, l.fingerprint, k.room
    FROM provision.lanes AS l
    LEFT JOIN unnest($14::text[], $15::bigint[]) AS k (queue, room) ON k.queue = l.queue
    WHERE l.ns = $1 AND (k.room > 0 OR NOT (
            l.queue = ANY ($16::text[])
            OR EXISTS (
                SELECT FROM unnest($17::text[]) AS e (prefix) WHERE starts_with(l.queue, e.prefix)
            )
        ))
         AND (cardinality($5::text[]) = 0 OR l.queue = ANY ($5::text[]))
        AND (l.saga, l.version, l.fingerprint) IN (
            SELECT c.saga, c.version, c.fingerprint
            FROM unnest($6::text[], $7::bigint[], $8::text[]) AS c (saga, version, fingerprint)
        )
),
