DELETE FROM provision_runs WHERE rowid IN (
    SELECT rowid FROM provision_runs
    WHERE ns = ?1 AND ended_at IS NOT NULL AND ended_at < ?2 ORDER BY ended_at LIMIT ?3
)
