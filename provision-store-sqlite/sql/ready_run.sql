SELECT due, run FROM provision_heads INDEXED BY provision_heads_ready
WHERE ns = ?1 AND lane = ?2 AND place = 2 AND priority = ?3 AND tenant_lane = ?4
    AND (due, run) > (?5, ?6)
ORDER BY due, run LIMIT 1
