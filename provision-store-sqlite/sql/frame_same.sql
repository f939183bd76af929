SELECT f.epoch = ?4 AND f.body = ?5, h.requests,
    h.owner IS ?6 AND h.epoch = ?4 AND h.nonce = ?7
FROM provision_frames AS f
CROSS JOIN provision_heads AS h ON h.ns = f.ns AND h.run = f.run
WHERE f.ns = ?1 AND f.run = ?2 AND f.seq = ?3
