UPDATE provision_heads
SET requests = requests + 1, updated_at = ?3,
    due = CASE WHEN owner IS NULL THEN ?3 ELSE due END,
    place = CASE WHEN owner IS NULL THEN 2 ELSE 0 END
WHERE ns = ?1 AND run = ?2
RETURNING requests
