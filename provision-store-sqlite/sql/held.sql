SELECT run, epoch FROM provision_heads INDEXED BY provision_heads_owner
WHERE ns = ?1 AND owner = ?2 ORDER BY run
