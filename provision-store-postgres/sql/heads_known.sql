SELECT h.ns, h.run
FROM unnest($1::integer[], $2::uuid[]) AS g (ns, run)
INNER JOIN provision.heads AS h ON h.ns = g.ns AND h.run = g.run
