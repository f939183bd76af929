UPDATE provision_heads
SET poked = owner IS NOT NULL,
    due = CASE WHEN owner IS NULL THEN ?3 ELSE due END,
    place = CASE WHEN owner IS NULL THEN 2 ELSE 0 END
WHERE ns = ?1 AND run = ?2
    AND (owner IS NOT NULL OR status IN ('Running', 'Waiting', 'Unwinding'))
