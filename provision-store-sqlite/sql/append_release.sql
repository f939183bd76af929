UPDATE provision_heads
SET seq = ?3, status = ?4, summary = ?5, open = ?6,
    deaths = CASE WHEN ?7 THEN 0 ELSE deaths END, consumed = max(consumed, ?8),
    dead_letter = ?9, updated_at = ?10, owner = NULL, nonce = 0, poked = 0, polls = ?11,
    due = ?12, place = ?13
WHERE ns = ?1 AND run = ?2
