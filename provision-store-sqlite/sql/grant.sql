UPDATE provision_heads
SET epoch = ?6 + 1, owner = ?3, nonce = ?4, place = 0, poked = 0, died_at = NULL, updated_at = ?5
WHERE ns = ?1 AND run = ?2 AND owner IS NULL AND epoch = ?6
