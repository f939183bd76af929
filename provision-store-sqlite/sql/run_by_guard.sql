SELECT run FROM provision_heads INDEXED BY provision_heads_guard
WHERE ns = ?1 AND guard = ?2
