UPDATE provision_heads INDEXED BY provision_heads_owner
SET owner = NULL, nonce = 0, place = 2, due = ?3, died_at = ?4, updated_at = ?3,
    deaths = deaths + (?4 IS NOT NULL AND ifnull((
        SELECT f.open FROM provision_frames AS f
        WHERE f.ns = provision_heads.ns AND f.run = provision_heads.run
            AND f.seq > provision_heads.seq
        ORDER BY f.seq DESC LIMIT 1
    ), open))
WHERE ns = ?1 AND owner = ?2
