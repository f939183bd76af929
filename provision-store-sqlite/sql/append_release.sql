UPDATE provision_heads
SET seq = ?7, status = ?8, summary = ?9, open = ?10,
    deaths = CASE WHEN ?14 THEN 0 ELSE deaths END, consumed = max(consumed, ?11),
    dead_letter = ?12, updated_at = ?13, owner = NULL, nonce = 0, poked = 0, polls = ?15,
    due = CASE WHEN requests > max(consumed, ?11, ?19) OR (poked AND ?16) THEN ?13 ELSE ?17 END,
    place = CASE WHEN requests > max(consumed, ?11, ?19) OR (poked AND ?16) THEN 2 ELSE ?18 END
WHERE ns = ?1 AND run = ?2 AND owner = ?3 AND epoch = ?4 AND nonce = ?5
    AND ?6 = max(seq, ifnull((
        SELECT max(f.seq) FROM provision_frames AS f WHERE f.ns = ?1 AND f.run = ?2
    ), 0))
