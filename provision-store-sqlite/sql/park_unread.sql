UPDATE provision_heads SET status = 'Parked', due = ?3, place = 0, dead_letter = 1
WHERE ns = ?1 AND run = ?2 AND owner IS NULL
