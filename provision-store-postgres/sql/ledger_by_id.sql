SELECT * FROM provision.ledger
WHERE ns = $1 AND (run, path, generation, idx) > ($2, $3, $4, $5) AND run <= $6
    AND ($13::text IS NULL OR path = $13)
    AND ($7::text IS NULL OR tenant = $7)
    AND ($8::text IS NULL OR provider = $8)
    AND ($9::text IS NULL OR kind = $9)
    AND external_id = $10::text
    AND (cardinality($11::text[]) = 0 OR state = ANY ($11::text[]))
ORDER BY run, path, generation, idx LIMIT $12
