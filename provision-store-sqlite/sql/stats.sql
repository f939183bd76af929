SELECT
    (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_ready
        WHERE ns = ?1 AND place = 2
    ) + (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_due
        WHERE ns = ?1 AND place = 1 AND due <= ?2
    ),
    (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_due
        WHERE ns = ?1 AND place = 1 AND due > ?2
    ),
    (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_owner
        WHERE ns = ?1 AND owner IS NOT NULL
    ),
    min(
        ifnull((
            SELECT min(due) FROM provision_heads INDEXED BY provision_heads_ready
            WHERE ns = ?1 AND place = 2
        ), ?2),
        ifnull((
            SELECT min(due) FROM provision_heads INDEXED BY provision_heads_due
            WHERE ns = ?1 AND place = 1
        ), ?2)
    ),
    (
        SELECT count(*) FROM provision_incarnations AS i INDEXED BY provision_incarnations_alive
        JOIN provision_heads AS h INDEXED BY provision_heads_owner
            ON h.ns = i.ns AND h.owner = i.id
        WHERE i.ns = ?1 AND i.dead_at IS NULL AND (i.boot <> ?3 OR i.expires <= ?4)
    )
