-- Live created rows of other runs under the same names, and whether a row that would meet one has
-- its name already: such a row keeps it, whatever the watch has entered since.
SELECT g.n, l.*
FROM unnest(
    $1::integer[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
    $8::text[], $9::text[]
) WITH ORDINALITY AS g (ns, run, path, generation, idx, provider, account, kind, name, n)
CROSS JOIN LATERAL (
    SELECT l.* FROM provision.ledger AS l
    WHERE l.ns = g.ns AND l.provider = g.provider AND l.account = g.account AND l.kind = g.kind
        AND l.name = g.name AND l.origin = 'created' AND l.state IN ('unknown', 'alive')
        AND l.run <> g.run
    ORDER BY l.run LIMIT 1
) AS l
WHERE NOT EXISTS (
    SELECT FROM provision.ledger AS own
    WHERE own.ns = g.ns AND own.run = g.run AND own.path = g.path
        AND own.generation = g.generation AND own.idx = g.idx AND own.provider = g.provider
        AND own.account = g.account AND own.kind = g.kind AND own.name = g.name
        AND own.origin = 'created' AND own.state IN ('unknown', 'alive')
)
ORDER BY g.n
