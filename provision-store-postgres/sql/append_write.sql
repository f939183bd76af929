kept AS (
    UPDATE provision.heads AS h
    SET seq = x.seq, updated_at = (SELECT now FROM clock), open = x.open, status = x.status,
        summary = x.summary, deaths = CASE WHEN x.settled THEN 0 ELSE h.deaths END,
        consumed = greatest(h.consumed, x.consumed), dead_letter = x.dead_letter,
        owner = CASE WHEN x.releases THEN NULL ELSE h.owner END,
        nonce = CASE WHEN x.releases THEN 0 ELSE h.nonce END,
        poked = h.poked AND NOT x.releases,
        polls = coalesce(x.polls, h.polls),
        due = CASE
            WHEN NOT x.releases THEN h.due
            WHEN h.requests > greatest(h.consumed, x.consumed, x.seen) OR (h.poked AND x.wakes)
                THEN (SELECT now FROM clock)
            ELSE x.due END,
        place = CASE
            WHEN NOT x.releases THEN h.place
            WHEN h.requests > greatest(h.consumed, x.consumed, x.seen) OR (h.poked AND x.wakes)
                THEN 2
            WHEN x.due = 9223372036854775807 THEN 0
            WHEN x.due <= (SELECT now FROM clock) THEN 2
            ELSE 1 END
    FROM held AS x
    -- S5: compared with the row as it is when it is written.
    WHERE h.ctid = x.spot AND h.owner IS NOT DISTINCT FROM x.owner
        AND h.epoch IS NOT DISTINCT FROM x.epoch AND h.nonce IS NOT DISTINCT FROM x.nonce
        AND h.seq IS NOT DISTINCT FROM x.seq_before
    RETURNING x.n, x.ns, x.run, x.seq, x.epoch, x.at, x.body, x.consumed,
        h.requests, h.place
),
framed AS (
    INSERT INTO provision.frames (ns, run, seq, epoch, at, body)
    SELECT ns, run, seq, epoch, at, body FROM kept WHERE body IS NOT NULL
)
