SELECT priority FROM provision_heads INDEXED BY provision_heads_ready
WHERE ns = ?1 AND lane = ?2 AND place = 2 AND priority < ?3 ORDER BY priority DESC LIMIT 1
