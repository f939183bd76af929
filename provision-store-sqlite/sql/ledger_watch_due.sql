SELECT * FROM provision_ledger INDEXED BY provision_ledger_watch
WHERE ns = ?1 AND watch_at IS NOT NULL AND watch_at <= ?2 ORDER BY watch_at LIMIT ?3
