DELETE FROM provision_incarnations
WHERE ns = ?1 AND id IN (
    SELECT id FROM provision_incarnations INDEXED BY provision_incarnations_dead
    WHERE ns = ?1 AND dead_at <= ?2 ORDER BY dead_at LIMIT ?3
)
