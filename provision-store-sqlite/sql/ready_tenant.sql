SELECT tenant_lane FROM provision_heads INDEXED BY provision_heads_ready
WHERE ns = ?1 AND lane = ?2 AND place = 2 AND priority = ?3 AND tenant_lane >= ?4
ORDER BY tenant_lane LIMIT 1
