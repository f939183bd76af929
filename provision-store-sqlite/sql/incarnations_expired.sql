SELECT id, boot = ?3, expires, expires_at
FROM provision_incarnations INDEXED BY provision_incarnations_alive
WHERE ns = ?1 AND dead_at IS NULL AND id <> ?2 AND (boot <> ?3 OR expires <= ?4)
