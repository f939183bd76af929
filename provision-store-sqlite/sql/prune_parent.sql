SELECT 1 FROM provision_runs AS r
CROSS JOIN provision_heads AS p ON p.ns = r.ns AND p.run = r.parent_run
WHERE r.ns = ?1 AND r.run = ?2
