,
consumed AS (
    DELETE FROM provision.requests AS q
    WHERE q.ctid = ANY (ARRAY(
        SELECT x.ctid FROM kept AS k
        CROSS JOIN LATERAL (
            SELECT r.ctid FROM provision.requests AS r
            WHERE r.ns = k.ns AND r.run = k.run AND r.number <= k.consumed
            OFFSET 0
        ) AS x
        WHERE k.consumed > 0
    ))
)
