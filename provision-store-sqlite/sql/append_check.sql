SELECT 1 FROM provision_heads
WHERE ns = ?1 AND run = ?2 AND owner = ?3 AND epoch = ?4 AND nonce = ?5 AND seq = ?6
