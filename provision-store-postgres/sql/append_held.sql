-- A row that somebody else holds is passed over, so that one slow neighbour stops nobody.
held AS (
    SELECT g.*, h.ctid AS spot
    FROM given AS g
    -- By its key, whatever the server knows of the tables: without statistics it would rather walk
    -- all that are leased.
    CROSS JOIN LATERAL (
        SELECT r.ctid FROM provision.heads AS r
        WHERE r.ns = g.ns AND r.run = g.run
        OFFSET 0
    ) AS found
    INNER JOIN provision.heads AS h ON h.ctid = found.ctid
    ORDER BY g.ns, g.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
),
