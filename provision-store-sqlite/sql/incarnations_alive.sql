SELECT id FROM provision_incarnations INDEXED BY provision_incarnations_alive
WHERE ns = ?1 AND dead_at IS NULL AND id <> ?2 ORDER BY id
