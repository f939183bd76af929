-- Any number of appends of different runs, each fenced on its own: what is returned was applied.
-- A row that somebody else holds is passed over, so that one slow neighbour stops nobody.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
held AS (
    SELECT g.*, h.consumed AS consumed_before
    FROM unnest(
        $1::integer[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::boolean[],
        $13::boolean[], $14::bigint[], $15::boolean[], $16::boolean[], $17::text[],
        $18::bigint[], $19::bigint[], $20::boolean[]
    ) WITH ORDINALITY AS g (
        ns, run, owner, epoch, nonce, seq_before,
        seq, at, body, status, summary, open,
        settled, consumed, dead_letter, releases, polls,
        due, seen, wakes, n
    )
    INNER JOIN provision.heads AS h ON h.ns = g.ns AND h.run = g.run
    WHERE h.owner = g.owner AND h.epoch = g.epoch AND h.nonce = g.nonce AND h.seq = g.seq_before
    ORDER BY g.ns, g.run
    FOR NO KEY UPDATE OF h SKIP LOCKED
),
kept AS (
    UPDATE provision.heads AS h
    SET seq = x.seq, updated_at = clock.now, open = x.open, status = x.status,
        summary = x.summary, deaths = CASE WHEN x.settled THEN 0 ELSE h.deaths END,
        consumed = greatest(h.consumed, x.consumed), dead_letter = x.dead_letter,
        owner = CASE WHEN x.releases THEN NULL ELSE h.owner END,
        nonce = CASE WHEN x.releases THEN 0 ELSE h.nonce END,
        poked = h.poked AND NOT x.releases,
        polls = coalesce(x.polls, h.polls),
        due = CASE
            WHEN NOT x.releases THEN h.due
            WHEN h.requests > greatest(h.consumed, x.consumed, x.seen) OR (h.poked AND x.wakes)
                THEN clock.now
            ELSE x.due END,
        place = CASE
            WHEN NOT x.releases THEN h.place
            WHEN h.requests > greatest(h.consumed, x.consumed, x.seen) OR (h.poked AND x.wakes)
                THEN 2
            WHEN x.due = 9223372036854775807 THEN 0
            WHEN x.due <= clock.now THEN 2
            ELSE 1 END
    FROM held AS x, clock
    WHERE h.ns = x.ns AND h.run = x.run AND h.owner = x.owner AND h.epoch = x.epoch
        AND h.nonce = x.nonce AND h.seq = x.seq_before
    RETURNING x.n, x.ns, x.run, x.seq, x.epoch, x.at, x.body, x.consumed, x.consumed_before,
        h.requests, h.place
),
framed AS (
    INSERT INTO provision.frames (ns, run, seq, epoch, at, body)
    SELECT ns, run, seq, epoch, at, body FROM kept WHERE body IS NOT NULL
),
consumed AS (
    DELETE FROM provision.requests AS q
    WHERE q.ctid = ANY (ARRAY(
        SELECT x.ctid FROM kept AS k
        CROSS JOIN LATERAL (
            SELECT r.ctid FROM provision.requests AS r
            WHERE r.ns = k.ns AND r.run = k.run AND r.number <= k.consumed
            OFFSET 0
        ) AS x
        WHERE k.consumed > k.consumed_before
    ))
)
SELECT n, requests, place FROM kept
