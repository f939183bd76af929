SELECT run FROM provision_heads WHERE ns = ?1 AND run > ?2 ORDER BY run LIMIT 1 OFFSET ?3
