SELECT run, seq,
    (status IN ('RolledBack', 'TornDown')
        OR (?5 AND status IN ('Succeeded', 'PartlySucceeded', 'RolledBackKeeping')))
    AND owner IS NULL AND due = 9223372036854775807 AND guard IS NULL AND updated_at < ?4
    AND (?6 OR dead_letter = 0)
FROM provision_heads
WHERE ns = ?1 AND run > ?2 ORDER BY run LIMIT ?3
