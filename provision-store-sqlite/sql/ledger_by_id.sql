SELECT * FROM provision_ledger INDEXED BY provision_ledger_ids
WHERE ns = ?1 AND (run, path, generation, idx) > (?2, ?3, ?4, ?5) AND run <= ?6
    AND (?13 IS NULL OR path = ?13)
    AND (?7 IS NULL OR tenant = ?7)
    AND (?8 IS NULL OR provider = ?8)
    AND (?9 IS NULL OR kind = ?9)
    AND external_id = ?10
    AND (?11 = '[]' OR state IN (SELECT value FROM json_each(?11)))
ORDER BY run, path, generation, idx LIMIT ?12
