SELECT run FROM provision_heads WHERE ns = ?1 AND guard = ?2
