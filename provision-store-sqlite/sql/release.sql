UPDATE provision_heads
SET owner = NULL, nonce = 0, poked = 0, polls = ?6, updated_at = ?7,
    due = CASE WHEN requests > max(consumed, ?10)
        OR (poked AND status IN ('Running', 'Waiting', 'Unwinding')) THEN ?7 ELSE ?8 END,
    place = CASE WHEN requests > max(consumed, ?10)
        OR (poked AND status IN ('Running', 'Waiting', 'Unwinding')) THEN 2 ELSE ?9 END
WHERE ns = ?1 AND run = ?2 AND owner = ?3 AND epoch = ?4 AND nonce = ?5
