SELECT
    (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_ready
        WHERE ns = ?1 AND place = 2
    ) + (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_delayed
        WHERE ns = ?1 AND place = 1 AND due <= ?2
    ),
    (
        SELECT count(*) FROM provision_heads INDEXED BY provision_heads_delayed
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
            SELECT min(due) FROM provision_heads INDEXED BY provision_heads_delayed
            WHERE ns = ?1 AND place = 1
        ), ?2)
    )
