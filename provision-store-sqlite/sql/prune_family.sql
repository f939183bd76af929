-- A run and those below it, and whether each of them, or anything it has made, is not over and done
-- with.
WITH RECURSIVE family (run) AS (
    SELECT ?2
    UNION
    SELECT r.run FROM family AS f
    CROSS JOIN provision_runs AS r
    WHERE r.ns = ?1 AND r.parent_run IS NOT NULL AND r.parent_run = f.run
    LIMIT ?3
)
SELECT NOT (
    (h.status IN ('RolledBack', 'TornDown')
        OR (?5 AND h.status IN ('Succeeded', 'PartlySucceeded', 'RolledBackKeeping')))
    AND h.owner IS NULL AND h.due = 9223372036854775807 AND h.guard IS NULL
    AND h.updated_at < ?4 AND (?6 OR h.dead_letter = 0)
    AND NOT EXISTS (
        SELECT 1 FROM provision_ledger AS l
        WHERE l.ns = ?1 AND l.run = f.run AND (l.state <> 'gone' OR l.watch_at IS NOT NULL)
    )
    AND NOT EXISTS (
        SELECT 1 FROM provision_sightings AS s
        WHERE s.ns = ?1 AND s.run = f.run AND NOT EXISTS (
            SELECT 1 FROM provision_ledger AS l
            WHERE l.ns = ?1 AND l.run = s.run AND l.path = s.path
                AND l.external_id = s.external_id
        )
    )
)
FROM family AS f
CROSS JOIN provision_heads AS h ON h.ns = ?1 AND h.run = f.run
