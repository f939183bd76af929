-- A row that somebody else holds is passed over, so that one slow neighbour stops nobody.
held AS (
    SELECT g.*, h.ctid AS spot
    FROM given AS g
    INNER JOIN provision.heads AS h ON h.ctid = g.found_at
    ORDER BY g.ns, g.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
),
