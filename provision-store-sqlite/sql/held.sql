SELECT run, epoch FROM provision_heads WHERE ns = ?1 AND owner = ?2 ORDER BY run
