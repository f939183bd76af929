UPDATE provision_incarnations SET dead_at = ?3 WHERE ns = ?1 AND id = ?2 AND dead_at IS NULL
