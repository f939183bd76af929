SELECT status FROM provision.heads WHERE ns = $1 AND run = $2 FOR NO KEY UPDATE
