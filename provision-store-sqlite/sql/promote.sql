UPDATE provision_heads INDEXED BY provision_heads_delayed
SET place = 2 WHERE ns = ?1 AND lane = ?2 AND place = 1 AND due <= ?3
