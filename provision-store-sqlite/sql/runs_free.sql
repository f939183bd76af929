UPDATE provision_heads INDEXED BY provision_heads_owner
SET owner = NULL, nonce = 0, place = 2, due = ?3, died_at = ?4, updated_at = ?3,
    deaths = deaths + (open AND ?4 IS NOT NULL)
WHERE ns = ?1 AND owner = ?2
