,
-- What the new owner has decided already: without the lease it is decided by another.
begun AS (
    INSERT INTO provision.frames (ns, run, seq, epoch, at, body)
    SELECT g.ns, g.run, 1, 1, g.first_at, g.first
    FROM headed AS h
    INNER JOIN given AS g ON g.ns = h.ns AND g.run = h.run
    WHERE h.owner IS NOT NULL AND g.first IS NOT NULL
)
