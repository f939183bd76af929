INSERT INTO provision_frames (ns, run, seq, epoch, at, body, summary, open, updated_at)
SELECT h.ns, h.run, ?7, h.epoch, ?8, ?9, ?10, ?11, ?12
FROM provision_heads AS h
WHERE h.ns = ?1 AND h.run = ?2 AND h.owner = ?3 AND h.epoch = ?4 AND h.nonce = ?5
    AND h.status = ?13 AND h.requests = 0 AND h.deaths = 0 AND NOT h.dead_letter
    AND ?6 = max(h.seq, ifnull((
        SELECT max(f.seq) FROM provision_frames AS f WHERE f.ns = ?1 AND f.run = ?2
    ), 0))
