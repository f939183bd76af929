-- Why appends were not applied: an earlier try stands, somebody else holds the row, or the lease
-- or the number is not the current one.
SELECT
    g.n, h.requests,
    h.owner IS NOT DISTINCT FROM g.owner AND h.epoch = g.epoch AND h.nonce = g.nonce,
    h.seq = g.seq_before,
    coalesce(f.epoch = g.epoch AND f.body = g.body, false)
FROM unnest(
    $1::integer[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::text[]
) WITH ORDINALITY AS g (ns, run, owner, epoch, nonce, seq_before, seq, body, n)
INNER JOIN provision.heads AS h ON h.ns = g.ns AND h.run = g.run
LEFT JOIN provision.frames AS f
    ON f.ns = g.ns AND f.run = g.run AND f.seq = g.seq AND g.body IS NOT NULL
