SELECT * FROM provision_ledger INDEXED BY provision_ledger_names
WHERE ns = ?1 AND provider = ?2 AND account = ?3 AND kind = ?4 AND name = ?5
    AND origin = 'created' AND state IN ('unknown', 'alive') AND run <> ?6
LIMIT 1
