SELECT
    (SELECT count(*) FROM provision_heads WHERE ns = ?1 AND place = 2)
        + (SELECT count(*) FROM provision_heads WHERE ns = ?1 AND place = 1 AND due <= ?2),
    (SELECT count(*) FROM provision_heads WHERE ns = ?1 AND place = 1 AND due > ?2),
    (SELECT count(*) FROM provision_heads WHERE ns = ?1 AND owner IS NOT NULL),
    min(
        ifnull((SELECT min(due) FROM provision_heads WHERE ns = ?1 AND place = 2), ?2),
        ifnull((SELECT min(due) FROM provision_heads WHERE ns = ?1 AND place = 1), ?2)
    )
