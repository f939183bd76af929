UPDATE provision_heads SET due = ?3, place = ?4 WHERE ns = ?1 AND run = ?2 AND owner IS NULL
