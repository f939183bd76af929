SELECT lane FROM provision_heads WHERE ns = ?1 AND run = ?2 AND owner IS NULL AND due <= ?3
