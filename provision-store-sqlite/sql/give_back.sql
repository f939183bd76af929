UPDATE provision_heads
SET owner = NULL, nonce = 0, poked = 0, place = 2, due = ?5, updated_at = ?5
WHERE ns = ?1 AND run = ?2 AND owner = ?3 AND epoch = ?4
