SELECT priority, due, run FROM provision_heads INDEXED BY provision_heads_delayed
WHERE ns = ?1 AND lane = ?2 AND place = 1 AND due <= ?3 ORDER BY due LIMIT ?4
