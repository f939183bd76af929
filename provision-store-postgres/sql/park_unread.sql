UPDATE provision.heads
SET status = 'Parked', due = 9223372036854775807, place = 0, owner = NULL, nonce = 0
WHERE ns = $1 AND run = $2 AND owner = $3 AND epoch = $4
