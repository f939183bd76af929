SELECT h.run, h.seq
FROM (
    SELECT run, seq, status, owner, due, guard, dead_letter, updated_at
    FROM provision_heads
    WHERE ns = ?1 AND run > ?2 ORDER BY run LIMIT ?3
) AS h
WHERE h.status IN ('Succeeded', 'PartlySucceeded', 'RolledBack', 'RolledBackKeeping', 'TornDown')
    AND h.owner IS NULL AND h.due = 9223372036854775807 AND h.guard IS NULL
    AND h.updated_at < ?4 AND (?5 OR h.dead_letter = 0)
