UPDATE provision.heads
SET status = 'Parked', dead_letter = true, due = 9223372036854775807, place = 0, owner = NULL,
    nonce = 0, poked = false, updated_at = (SELECT now FROM provision.moment)
WHERE ns = $1 AND run = $2 AND owner = $3 AND epoch = $4
