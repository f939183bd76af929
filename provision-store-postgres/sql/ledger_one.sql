-- A claim of the watch takes the row alone: what is compared here must not change before the write.
SELECT * FROM provision.ledger
WHERE ns = $1 AND run = $2 AND path = $3 AND generation = $4 AND idx = $5
FOR NO KEY UPDATE
