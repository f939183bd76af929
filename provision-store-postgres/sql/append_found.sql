-- Rows that nobody has locked since they were written, but who wrote them: that lock is over. One
-- that is being locked at this very moment is waited for; the others are passed over.
held AS (
    SELECT g.*, found.ctid AS spot
    FROM given AS g
    -- By its key, whatever the server knows of the tables: without statistics it would rather walk
    -- all that are leased.
    CROSS JOIN LATERAL (
        SELECT r.ctid FROM provision.heads AS r
        WHERE r.ns = g.ns AND r.run = g.run
            AND (r.xmax = '0'::xid OR r.xmax = r.xmin)
        OFFSET 0
    ) AS found
),
