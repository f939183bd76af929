-- Any number of appends of different runs, each fenced on its own: what is returned was applied.
WITH clock AS MATERIALIZED (SELECT now FROM provision.moment),
given AS (
    SELECT g.*, found.ctid AS found_at, found.is_free
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
    -- By its key, whatever the server knows of the tables: without statistics it would rather walk
    -- all that are leased. Free is a row that nobody has locked since it was written, but who wrote
    -- it: that lock is over.
    CROSS JOIN LATERAL (
        SELECT r.ctid, r.xmax = '0'::xid OR r.xmax = r.xmin AS is_free
        FROM provision.heads AS r
        WHERE r.ns = g.ns AND r.run = g.run
        OFFSET 0
    ) AS found
),
