SELECT h.ns, h.run, h.owner, h.epoch, h.nonce, h.seq, h.status
FROM unnest($1::integer[], $2::uuid[]) AS g (ns, run)
INNER JOIN provision.heads AS h ON h.ns = g.ns AND h.run = g.run
ORDER BY h.ns, h.run
FOR NO KEY UPDATE OF h SKIP LOCKED
