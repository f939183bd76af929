SELECT min(expires) FROM provision_incarnations INDEXED BY provision_incarnations_alive
WHERE ns = ?1 AND dead_at IS NULL AND boot = ?2 AND expires > ?3
