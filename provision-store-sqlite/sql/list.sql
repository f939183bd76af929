SELECT * FROM provision_run_rows
WHERE ns = ?1 AND run BETWEEN ?2 AND ?3
    AND (?4 = '[]' OR status IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR saga = ?5)
    AND (?11 IS NULL OR version = ?11)
    AND (?6 IS NULL OR tenant = ?6)
    AND (?7 IS NULL OR substr(key, 1, length(?7)) = ?7)
    AND (?9 IS NULL OR parent_run = ?9)
    AND (?10 IS NULL OR due <= ?10)
ORDER BY run DESC LIMIT ?8
