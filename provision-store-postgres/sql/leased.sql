-- Of `acquire` and `take`: leases what is held, and tells of each run what its worker needs.
granted AS (
    UPDATE provision.heads AS h
    SET epoch = h.epoch + 1, owner = $2, place = 0, poked = false, died_at = NULL,
        updated_at = clock.now,
        nonce = ($9::bigint[])[
            array_position(ARRAY(SELECT x.run FROM held AS x ORDER BY x.place), h.run)
        ]
    FROM clock
    WHERE h.ns = $1 AND h.run = ANY (ARRAY(SELECT x.run FROM held AS x)) AND h.owner IS NULL
    RETURNING h.ns, h.run, h.lane, h.priority, h.tenant_lane, h.guard, h.guard_until, h.status,
        h.due, h.polls, h.seq, h.epoch, h.owner, h.requests, h.consumed, h.open, h.deaths,
        h.summary, h.updated_at, h.nonce
)
SELECT
    g.ns, g.run, c.saga, c.version, c.fingerprint, r.tenant, c.queue, g.priority, r.key, g.guard,
    g.guard_until, r.input, r.input_hash, r.parent_run, r.parent_path, r.context, g.status, g.due,
    g.polls, g.seq, g.epoch, g.owner, g.requests, g.consumed, g.open, g.deaths, g.summary,
    r.created_at, g.updated_at, x.died_at, g.nonce, g.lane, g.tenant_lane,
    clock.now,
    EXISTS (SELECT FROM me),
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= clock.now AND i.id <> $2
    ),
