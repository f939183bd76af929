UPDATE provision.ledger SET watch_at = $7
WHERE ns = $1 AND run = $2 AND path = $3 AND generation = $4 AND idx = $5
    AND watch_at IS NOT DISTINCT FROM $6
