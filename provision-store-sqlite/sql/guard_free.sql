UPDATE provision_heads SET guard = NULL, guard_until = NULL WHERE ns = ?1 AND run = ?2
