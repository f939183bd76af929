SELECT due FROM provision_heads INDEXED BY provision_heads_ready
WHERE ns = ?1 AND lane = ?2 AND place = 2
ORDER BY priority DESC, tenant_lane, due LIMIT 1
