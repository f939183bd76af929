SELECT requests FROM provision_heads WHERE ns = ?1 AND run = ?2
