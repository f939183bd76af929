UPDATE provision_ledger SET watch_at = ?6
WHERE ns = ?1 AND run = ?2 AND path = CAST(?3 AS TEXT) AND generation = ?4 AND idx = ?5
