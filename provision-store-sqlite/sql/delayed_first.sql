SELECT due FROM provision_heads INDEXED BY provision_heads_due
WHERE ns = ?1 AND place = 1 ORDER BY due LIMIT 1
