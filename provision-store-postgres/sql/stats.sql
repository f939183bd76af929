SELECT
    (SELECT count(*) FROM provision.heads WHERE ns = $1 AND place = 2)
        + (SELECT count(*) FROM provision.heads WHERE ns = $1 AND place = 1 AND due <= m.now),
    (SELECT count(*) FROM provision.heads WHERE ns = $1 AND place = 1 AND due > m.now),
    (SELECT count(*) FROM provision.heads WHERE ns = $1 AND owner IS NOT NULL),
    greatest(0, m.now - least(
        coalesce((SELECT min(due) FROM provision.heads WHERE ns = $1 AND place = 2), m.now),
        coalesce((SELECT min(due) FROM provision.heads WHERE ns = $1 AND place = 1), m.now)
    )),
    (
        SELECT count(*) FROM provision.incarnations AS i
        INNER JOIN provision.heads AS h ON h.ns = i.ns AND h.owner = i.id
        WHERE i.ns = $1 AND i.dead_at IS NULL AND i.expires <= m.now
    )
FROM provision.moment AS m
