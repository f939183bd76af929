DELETE FROM provision_ledger WHERE ns = ?1 AND run = ?2
