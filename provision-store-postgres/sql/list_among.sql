-- As `list`, among few runs: each is looked up by its key before they are put in order.
SELECT * FROM (
    SELECT * FROM provision.run_rows
    WHERE ns = $1 AND run = ANY ($12::uuid[])
        AND (cardinality($4::text[]) = 0 OR status = ANY ($4::text[]))
        AND ($5::text IS NULL OR saga = $5)
        AND ($6::text IS NULL OR tenant = $6)
        AND ($7::text IS NULL OR starts_with(key, $7))
        AND ($9::uuid IS NULL OR parent_run = $9)
        AND ($10::bigint IS NULL OR due <= $10)
        AND ($11::bigint IS NULL OR version = $11)
    OFFSET 0
) AS x
WHERE x.run BETWEEN $2 AND $3
ORDER BY run DESC LIMIT $8
