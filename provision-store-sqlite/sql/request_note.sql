UPDATE provision_heads
SET requests = ?3, updated_at = ?4,
    due = CASE WHEN owner IS NULL THEN ?4 ELSE due END,
    place = CASE WHEN owner IS NULL THEN 2 ELSE 0 END
WHERE ns = ?1 AND run = ?2
