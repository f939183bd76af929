-- `take`: as for `acquire`, but delayed runs are not its own to look for.
    EXISTS (
        SELECT FROM provision.incarnations AS i
        WHERE i.ns = $1 AND i.dead_at IS NOT NULL AND i.dead_at <= clock.now - $11::bigint
    ),
    false
