SELECT * FROM provision.ledger
WHERE ns = $1 AND run = $2 AND path = $3 AND generation = $4 AND idx = $5
