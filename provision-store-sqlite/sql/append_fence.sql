SELECT requests, consumed, poked,
    status = ?7 AND requests = 0 AND deaths = 0 AND NOT dead_letter
FROM provision_heads
WHERE ns = ?1 AND run = ?2 AND owner = ?3 AND epoch = ?4 AND nonce = ?5
    AND ?6 = max(seq, ifnull((
        SELECT max(f.seq) FROM provision_frames AS f WHERE f.ns = ?1 AND f.run = ?2
    ), 0))
