WITH RECURSIVE family (run) AS (
    SELECT ?2
    UNION
    SELECT r.run FROM family AS f
    CROSS JOIN provision_runs AS r
    WHERE r.ns = ?1 AND r.parent_run IS NOT NULL AND r.parent_run = f.run
)
SELECT 1 FROM provision_runs AS r
CROSS JOIN provision_heads AS p ON p.ns = r.ns AND p.run = r.parent_run
WHERE r.ns = ?1 AND r.run = ?2
UNION ALL
SELECT 1 FROM family AS f
CROSS JOIN provision_heads AS h ON h.ns = ?1 AND h.run = f.run
WHERE h.status NOT IN (
        'Succeeded', 'PartlySucceeded', 'RolledBack', 'RolledBackKeeping', 'TornDown'
    )
    OR h.owner IS NOT NULL OR h.due < 9223372036854775807 OR h.guard IS NOT NULL
    OR EXISTS (
        SELECT 1 FROM provision_ledger AS l
        WHERE l.ns = ?1 AND l.run = f.run AND (l.state <> 'gone' OR l.watch_at IS NOT NULL)
    )
    OR EXISTS (
        SELECT 1 FROM provision_sightings AS s
        WHERE s.ns = ?1 AND s.run = f.run AND NOT EXISTS (
            SELECT 1 FROM provision_ledger AS l
            WHERE l.ns = ?1 AND l.run = s.run AND l.path = s.path
                AND l.external_id = s.external_id
        )
    )
LIMIT 1
