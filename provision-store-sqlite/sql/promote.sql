UPDATE provision_heads SET place = 2
WHERE ns = ?1 AND run IN (
    SELECT run FROM provision_heads INDEXED BY provision_heads_due
    WHERE ns = ?1 AND place = 1 AND due <= ?2 ORDER BY due LIMIT ?3
)
