DELETE FROM provision_incarnations WHERE ns = ?1 AND dead_at < ?2
