SELECT due FROM provision_heads INDEXED BY provision_heads_delayed
WHERE ns = ?1 AND lane = ?2 AND place = 1 ORDER BY due LIMIT 1
