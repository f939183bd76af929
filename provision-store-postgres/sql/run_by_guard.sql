SELECT * FROM provision.run_rows
WHERE ns = $1 AND run = (SELECT h.run FROM provision.heads AS h WHERE h.ns = $1 AND h.guard = $2)
