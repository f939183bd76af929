SELECT id FROM provision_incarnations WHERE ns = ?1 AND dead_at IS NULL AND id <> ?2 ORDER BY id
