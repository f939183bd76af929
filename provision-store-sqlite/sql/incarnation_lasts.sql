SELECT 1 FROM provision_incarnations
WHERE ns = ?1 AND id = ?2 AND dead_at IS NULL AND boot = ?3 AND expires >= ?4
